package edge

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
)

// proxyV2 writes a header of version 2.
func proxyV2(command, family byte, at ...byte) string {
	head := append([]byte(nil), proxySignature...)
	head = append(head, command, family)
	head = binary.BigEndian.AppendUint16(head, uint16(len(at)))
	return string(append(head, at...))
}

var (
	ends4 = []byte{1, 2, 3, 4, 5, 6, 7, 8, 0x12, 0x34, 0, 80}
	ends6 = append(append(netip.MustParseAddr("2001:db8::1").AsSlice(), netip.MustParseAddr("2001:db8::2").AsSlice()...), 0x12, 0x34, 0, 80)
)

func TestProxyHeader(t *testing.T) {
	const rest = "GET / HTTP/1.1\r\n"
	for _, c := range []struct {
		rule, in string
		what     found
		client   string
	}{
		{"version 1", "PROXY TCP4 1.2.3.4 5.6.7.8 4660 80\r\n", wholeHeader, "1.2.3.4:4660"},
		{"version 1 over IPv6", "PROXY TCP6 2001:db8::1 2001:db8::2 4660 80\r\n", wholeHeader, "[2001:db8::1]:4660"},
		{"unknown", "PROXY UNKNOWN\r\n", wholeHeader, ""},
		{"unknown, with something", "PROXY UNKNOWN ffff:f...f ffff:f...f 65535 65535\r\n", wholeHeader, ""},
		{"version 2", proxyV2(0x21, 0x11, ends4...), wholeHeader, "1.2.3.4:4660"},
		{"version 2 over IPv6", proxyV2(0x21, 0x21, ends6...), wholeHeader, "[2001:db8::1]:4660"},
		{"version 2 with more", proxyV2(0x21, 0x11, append(ends4[:12:12], 4, 0, 1, 0)...), wholeHeader, "1.2.3.4:4660"},
		{"the proxy's own", proxyV2(0x20, 0x00), wholeHeader, ""},
		{"the proxy's own, with addresses", proxyV2(0x20, 0x11, ends4...), wholeHeader, ""},
		{"of a Unix socket", proxyV2(0x21, 0x31, make([]byte, 216)...), wholeHeader, ""},

		{"a request", "GET / HTTP/1.1\r\n\r\n", noHeader, ""},
		{"a request that begins alike", "PROPFIND / HTTP/1.1\r\n\r\n", noHeader, ""},
		{"TLS", "\x16\x03\x01", noHeader, ""},
		{"an empty line", "\r\nGET / HTTP/1.1", noHeader, ""},

		{"another family", "PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n", badHeader, ""},
		{"families mixed", "PROXY TCP4 1.2.3.4 ::1 1 2\r\n", badHeader, ""},
		{"of the other family", "PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n", badHeader, ""},
		{"two blanks", "PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n", badHeader, ""},
		{"a port that is none", "PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n", badHeader, ""},
		{"a signed port", "PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n", badHeader, ""},
		{"zeros before a port", "PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n", badHeader, ""},
		{"one port", "PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n", badHeader, ""},
		{"a zone", "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", badHeader, ""},
		{"a bare LF", "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n", badHeader, ""},
		{"nothing", "PROXY \r\n", badHeader, ""},
		{"too long", "PROXY UNKNOWN " + strings.Repeat("x", proxyLineMax) + "\r\n", badHeader, ""},
		{"version 3", proxyV2(0x31, 0x11, ends4...), badHeader, ""},
		{"another command", proxyV2(0x22, 0x11, ends4...), badHeader, ""},
		{"addresses cut", proxyV2(0x21, 0x11, ends4[:11]...), badHeader, ""},
		{"addresses of IPv6 cut", proxyV2(0x21, 0x21, ends6[:35]...), badHeader, ""},
		{"datagrams", proxyV2(0x21, 0x12, ends4...), badHeader, ""},
		{"longer than any", proxyV2(0x21, 0x11, make([]byte, proxyBytes)...), badHeader, ""},
	} {
		what, client, size := proxyHeader([]byte(c.in + rest))
		if what != c.what || client.IsValid() != (c.client != "") || client.IsValid() && client.String() != c.client {
			t.Errorf("%s: %v, %v; want %v, %s", c.rule, what, client, c.what, c.client)
		}
		if what == wholeHeader && size != len(c.in) {
			t.Errorf("%s: it is %d bytes long, want %d", c.rule, size, len(c.in))
		}
	}
}

// However a stream is cut: what is told once is not told otherwise when more has
// come, a header ends within what was there, and nobody waits for ever.
func FuzzProxyHeader(f *testing.F) {
	for _, s := range []string{
		"PROXY TCP4 1.2.3.4 5.6.7.8 4660 80\r\nGET", "PROXY TCP6 2001:db8::1 ::2 1 80\r\n", "PROXY UNKNOWN x\r\n", "PROXY", "\r\n\r\n\x00\r\nQUI", "GET / HTTP/1.1",
		proxyV2(0x21, 0x11, ends4...) + "GET", proxyV2(0x21, 0x21, ends6...), proxyV2(0x20, 0), proxyV2(0x21, 0x31, make([]byte, 216)...),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		p = p[:min(len(p), 2*proxyBytes)]
		told := false
		var what found
		var client netip.AddrPort
		var size int
		for n := range len(p) + 1 {
			w, c, s := proxyHeader(p[:n])
			switch {
			case told && (w != what || c != client || s != size):
				t.Fatalf("%q is %v %v %d, and %v %v %d once there are %d bytes", p, what, client, size, w, c, s, n)
			case s > n || w != wholeHeader && s != 0 || w == partHeader && n >= proxyBytes:
				t.Fatalf("%q: %v of %d bytes at %d", p, w, s, n)
			case w == wholeHeader && c.IsValid() && (c.Addr().Zone() != "" || !c.Addr().IsValid()):
				t.Fatalf("%q: client %v", p, c)
			case w != partHeader:
				told, what, client, size = true, w, c, s
			}
		}
	})
}
