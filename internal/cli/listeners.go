package cli

import (
	"errors"
	"fmt"
	"net"
	"slices"

	"holdfast/internal/admin"
	"holdfast/internal/config"
	"holdfast/internal/edge"
)

// listeners are where a server listens.
type listeners struct {
	plain, secure           []net.Listener // where requests arrive, over plain HTTP and TLS
	adminPlain, adminSecure []net.Listener // the same of operators
}

// The names by which listeners are handed to us: FileDescriptorName= of a socket
// unit. Those with another name are known by their place: the first of them is
// where requests arrive, the second the admin API.
const (
	handedPlain  = "http"
	handedSecure = "https"
	handedAdmin  = "admin"
)

// openListeners opens what the settings say, but for the kinds that were handed
// to us, which win.
func openListeners(c config.Config) (all listeners, err error) {
	handed, err := edge.Inherited()
	if err != nil {
		return all, err
	}
	defer func() {
		if err != nil {
			all.close()
		}
	}()
	unnamed := 0
	for i, h := range handed {
		if !slices.Contains([]string{handedPlain, handedSecure, handedAdmin}, h.Name) {
			h.Name = handedByPlace(unnamed)
			unnamed++
		}
		if err := all.take(h); err != nil {
			for _, rest := range handed[i:] {
				rest.Close()
			}
			return all, err
		}
	}
	for _, l := range all.adminPlain {
		if err := hidden(c, l.Addr().String()); err != nil && l.Addr().Network() == "tcp" {
			return all, err
		}
	}
	all.adminPlain, all.adminSecure = all.divide(c)
	if len(all.secure) > 0 && !speaksTLS(c) {
		return all, &problem{what: "a listener for TLS was handed to us, and there is no certificate", next: "Have them obtained with acme-email, or name one and its key with tls-cert and tls-key, or leave FileDescriptorName=https out."}
	}
	// A default beside what was handed over would be one more that nobody asked
	// for; TLS somebody did ask for.
	if len(all.plain)+len(all.secure) == 0 {
		for _, addr := range c.Listen {
			l, err := listen(addr, "--listen=HOST:PORT", "--listen=127.0.0.1:0", "--listen=127.0.0.1:8080")
			if err != nil {
				return all, err
			}
			all.plain = append(all.plain, l)
		}
	}
	if len(all.secure) == 0 {
		for _, addr := range c.ListenTLS {
			l, err := listen(addr, "--listen-tls=HOST:PORT", "--listen-tls=127.0.0.1:0", "--listen-tls=127.0.0.1:8443")
			if err != nil {
				return all, err
			}
			all.secure = append(all.secure, l)
		}
	}
	if len(all.adminPlain)+len(all.adminSecure) == 0 {
		for _, addr := range c.Admin {
			l, err := listen(addr, "--admin=HOST:PORT", "--admin=127.0.0.1:0", "--admin=127.0.0.1:8079")
			if err != nil {
				return all, err
			}
			all.adminPlain = append(all.adminPlain, l)
		}
		all.adminPlain, all.adminSecure = all.divide(c)
	}
	return all, nil
}

// divide tells the listeners of operators that speak TLS from those that do not:
// what other machines reach does, unless somebody said otherwise.
func (l *listeners) divide(c config.Config) (plain, secure []net.Listener) {
	for _, one := range l.adminPlain {
		if one.Addr().Network() != "tcp" || local(one.Addr().String()) || c.AdminPlain {
			plain = append(plain, one)
		} else {
			secure = append(secure, one)
		}
	}
	return plain, secure
}

// handedByPlace is what the n-th listener is for that has no name of ours.
func handedByPlace(n int) string {
	switch n {
	case 0:
		return handedPlain
	case 1:
		return handedAdmin
	}
	return ""
}

// take takes a listener that was handed to us.
func (l *listeners) take(h edge.Handed) error {
	switch h.Name {
	case handedPlain:
		l.plain = append(l.plain, h.Listener)
	case handedSecure:
		l.secure = append(l.secure, h.Listener)
	case handedAdmin:
		l.adminPlain = append(l.adminPlain, h.Listener)
	default:
		return &problem{
			what: fmt.Sprintf("the listener %s was handed to us, and has no name that says what it is for", h.Addr()),
			next: "Say FileDescriptorName=http, https or admin in its socket unit. Without names two are taken: where requests arrive, then the admin API.",
		}
	}
	return nil
}

// speaksTLS says whether there is a certificate to be had.
func speaksTLS(c config.Config) bool { return len(c.TLSCert) > 0 || c.ACMEEmail != "" }

func (l *listeners) close() error {
	var errs []error
	for _, one := range slices.Concat(l.plain, l.secure, l.adminPlain, l.adminSecure) {
		errs = append(errs, one.Close())
	}
	return errors.Join(errs...)
}

// handed is all of them, as they are handed to ourselves.
func (l *listeners) handed() (all []edge.Handed) {
	for _, one := range l.plain {
		all = append(all, edge.Handed{Listener: one, Name: handedPlain})
	}
	for _, one := range l.secure {
		all = append(all, edge.Handed{Listener: one, Name: handedSecure})
	}
	for _, one := range slices.Concat(l.adminPlain, l.adminSecure) {
		all = append(all, edge.Handed{Listener: one, Name: handedAdmin})
	}
	return all
}

// requests are the listeners where requests arrive, those first that people
// should use.
func (l *listeners) requests() []net.Listener { return slices.Concat(l.secure, l.plain) }

// named is how the admin API tells of them.
func (l *listeners) named() (all []admin.Listener) {
	for i, one := range l.requests() {
		name := "http"
		if i < len(l.secure) {
			name = "https"
		}
		all = append(all, admin.Listener{Name: name, Addr: one.Addr().String()})
	}
	return all
}

// address is the URL of a host name.
func (l *listeners) address(host string) string { return addressOf(host, l.named()) }

// adminURL is where operators come, from this machine if there is a way.
func (l *listeners) adminURL(c config.Config) string {
	for _, one := range l.adminPlain {
		if one.Addr().Network() == "tcp" {
			return "http://" + reachable(one.Addr())
		}
	}
	for _, one := range l.adminSecure {
		if _, port, err := net.SplitHostPort(one.Addr().String()); err == nil {
			return "https://" + net.JoinHostPort(c.Domains[0], port)
		}
	}
	return ""
}

// urls are where requests arrive, by addresses of this machine.
func (l *listeners) urls() (all []string) {
	for i, one := range l.requests() {
		switch {
		case one.Addr().Network() == "unix":
			all = append(all, "unix:"+one.Addr().String())
		case i < len(l.secure):
			all = append(all, "https://"+reachable(one.Addr()))
		default:
			all = append(all, "http://"+reachable(one.Addr()))
		}
	}
	return all
}

// reachable is an address of this machine at which a listener is reached: one
// that listens on all has none of its own.
func reachable(a net.Addr) string {
	host, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}
