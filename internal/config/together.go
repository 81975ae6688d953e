package config

import "fmt"

// together is what is wrong with settings that are fine each by itself.
func together(c Config, values []Value) *Error {
	about := func(name, what, hint string) *Error {
		for _, v := range values {
			if v.Name != name {
				continue
			}
			e := &Error{Text: v.Text, What: what, Hint: hint}
			switch v.From {
			case "flag":
				e.From = v.Flag()
			case "environment":
				e.From = v.Variable()
			default:
				e.From, e.Key = v.From, v.Key()
			}
			return e
		}
		panic("no setting is called " + name)
	}
	switch {
	case len(c.TLSCert) != len(c.TLSKey):
		return about("tls-cert", fmt.Sprintf("there are %d certificates and %d keys", len(c.TLSCert), len(c.TLSKey)), "give each certificate its key, in the same order")
	case len(c.ListenTLS) > 0 && len(c.TLSCert) == 0:
		return about("listen-tls", "there is no certificate", "name one and its key with tls-cert and tls-key")
	case len(c.Listen)+len(c.ListenTLS) == 0:
		return about("listen", "requests would arrive nowhere", "name an address, here or for listen-tls")
	}
	return nil
}
