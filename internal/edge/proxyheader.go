package edge

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"
)

// The PROXY protocol (haproxy's proxy-protocol.txt, versions 1 and 2): a proxy
// that carries connections says at the beginning of each from whom it is.

const (
	// proxyLineMax is the longest header of version 1, in bytes.
	proxyLineMax = 107

	// proxyBytes bounds a header of version 2: addresses take 216, and what else
	// proxies say in it is some 100.
	proxyBytes = 1 << 10

	proxyFixed = 16 // what version 2 has before the addresses
)

var (
	proxyLine      = []byte("PROXY ")
	proxySignature = []byte("\r\n\r\n\x00\r\nQUIT\n")
)

// found is what the beginning of a connection is.
type found int

const (
	noHeader   found = iota // something else
	partHeader              // more has to come before that can be told
	badHeader               // a header that means nothing
	wholeHeader
)

// proxyHeader looks for a header at the beginning of a connection. A whole one
// is size bytes long; client is not valid where it names none, as that of a
// proxy's own health check.
func proxyHeader(p []byte) (what found, client netip.AddrPort, size int) {
	switch {
	case bytes.HasPrefix(p, proxyLine):
		return readProxyLine(p)
	case bytes.HasPrefix(p, proxySignature):
		return readProxyBytes(p)
	case bytes.HasPrefix(proxyLine, p), bytes.HasPrefix(proxySignature, p):
		return partHeader, client, 0
	}
	return noHeader, client, 0
}

// readProxyLine reads version 1: PROXY TCP4 SOURCE DESTINATION PORT PORT.
func readProxyLine(p []byte) (what found, client netip.AddrPort, size int) {
	end := bytes.IndexByte(p[:min(len(p), proxyLineMax)], '\n')
	if end < 0 {
		if len(p) >= proxyLineMax {
			return badHeader, client, 0
		}
		return partHeader, client, 0
	}
	line, ok := strings.CutSuffix(string(p[:end]), "\r")
	if !ok {
		return badHeader, client, 0
	}
	words := strings.Split(line, " ")
	if words[1] == "UNKNOWN" { // whatever follows
		return wholeHeader, client, end + 1
	}
	if len(words) != 6 || words[1] != "TCP4" && words[1] != "TCP6" {
		return badHeader, client, 0
	}
	source, ok := proxyEnd(words[1] == "TCP4", words[2], words[4])
	if _, ok2 := proxyEnd(words[1] == "TCP4", words[3], words[5]); !ok || !ok2 {
		return badHeader, client, 0
	}
	return wholeHeader, source, end + 1
}

// proxyEnd is an address and a port as version 1 writes them.
func proxyEnd(v4 bool, address, port string) (netip.AddrPort, bool) {
	a, err := netip.ParseAddr(address)
	n, err2 := strconv.ParseUint(port, 10, 16)
	if err != nil || err2 != nil || a.Is4() != v4 || a.Zone() != "" || port != strconv.FormatUint(n, 10) {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(a, uint16(n)), true
}

// readProxyBytes reads version 2.
func readProxyBytes(p []byte) (what found, client netip.AddrPort, size int) {
	const local, proxied = 0x20, 0x21
	const unspecified, overTCP4, overTCP6, overUnix = 0x00, 0x11, 0x21, 0x31
	if len(p) < proxyFixed {
		return partHeader, client, 0
	}
	command, family, length := p[12], p[13], int(binary.BigEndian.Uint16(p[14:]))
	size = proxyFixed + length
	if command != local && command != proxied || size > proxyBytes {
		return badHeader, client, 0
	}
	if len(p) < size {
		return partHeader, client, 0
	}
	if command == local {
		return wholeHeader, client, size
	}
	at := p[proxyFixed:size]
	switch {
	case family == unspecified || family == overUnix:
	case family == overTCP4 && length >= 12:
		client = netip.AddrPortFrom(netip.AddrFrom4([4]byte(at)), binary.BigEndian.Uint16(at[8:]))
	case family == overTCP6 && length >= 36:
		client = netip.AddrPortFrom(netip.AddrFrom16([16]byte(at)).Unmap(), binary.BigEndian.Uint16(at[32:]))
	default:
		return badHeader, client, 0
	}
	return wholeHeader, client, size
}
