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
	case len(c.ListenTLS) > 0 && len(c.TLSCert) == 0 && c.ACMEEmail == "":
		return about("listen-tls", "there is no certificate", "have them obtained with acme-email, or name one and its key with tls-cert and tls-key")
	case len(c.ListenTLS) == 0 && c.ACMEEmail != "":
		return about("acme-email", "certificates would be obtained and not used", "name where TLS is spoken, as in listen-tls=:443")
	case len(c.ListenTLS) == 0 && len(c.TLSCert) > 0:
		return about("tls-cert", "the certificate would not be used", "name where TLS is spoken, as in listen-tls=:443")
	case len(c.Admin) == 0:
		return about("admin", "nobody could command the server", "name an address, such as 127.0.0.1:8079")
	case len(c.Listen)+len(c.ListenTLS) == 0:
		return about("listen", "requests would arrive nowhere", "name an address, here or for listen-tls")
	}
	return nil
}
