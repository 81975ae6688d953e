package config

import (
	"fmt"
	"net/mail"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"
)

// Values of what faces strangers.

const hstsMax = 10 * 365 * 24 * time.Hour

// email is a bare address.
func email(text string) (string, *fault) {
	if text == "" {
		return "", nil
	}
	if a, err := mail.ParseAddress(text); err != nil || a.Address != text {
		return "", &fault{"it is no e-mail address", "write it as in ops@example.org"}
	}
	return text, nil
}

// directory is where an authority tells how it is spoken to.
func directory(text string) (string, *fault) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return "", &fault{"it is not the URL of an ACME directory", "write it as in https://acme-v02.api.letsencrypt.org/directory"}
	}
	return text, nil
}

func fileOrNone(text string) (string, *fault) {
	if text == "" {
		return "", nil
	}
	return file(text)
}

func programOrNone(text string) (string, *fault) {
	path, wrong := fileOrNone(text)
	if path == "" || wrong != nil {
		return path, wrong
	}
	if info, err := os.Stat(path); err != nil || info.Mode()&0o111 == 0 {
		return "", &fault{"it cannot be run", "make it executable: chmod +x " + path}
	}
	return path, nil
}

func hsts(c *Config, text string) *fault {
	d, err := time.ParseDuration(text)
	if err != nil {
		return &fault{"it is not a duration", "write it as in 8760h, which is a year"}
	}
	if d < 0 || d > hstsMax || d%time.Second != 0 {
		return &fault{"it is out of bounds", fmt.Sprintf("write whole seconds from 0s to %v", hstsMax)}
	}
	c.HSTS = d
	return nil
}

// proxies sets who is believed.
func proxies(c *Config, text string) *fault {
	all, wrong := []string(nil), (*fault)(nil)
	wrong = several(func(*Config) *[]string { return &all }, func(text string) (string, *fault) { return text, nil })(c, text)
	if wrong != nil {
		return wrong
	}
	for _, one := range all {
		if one == "unix" {
			c.TrustedUnix = true
			continue
		}
		p, err := netip.ParsePrefix(one)
		if err != nil {
			a, err := netip.ParseAddr(one)
			if err != nil || a.Zone() != "" {
				return &fault{fmt.Sprintf("%q is neither an address nor a network", one), "write it as in 10.0.0.7, 10.0.0.0/8, 2001:db8::/32 or unix"}
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		if p.Addr().Is4In6() {
			return &fault{fmt.Sprintf("%q is an IPv4 address in IPv6", one), "write it as one of IPv4: " + strings.TrimPrefix(one, "::ffff:")}
		}
		c.TrustedProxies = append(c.TrustedProxies, p.Masked())
	}
	return nil
}
