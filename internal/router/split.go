package router

import (
	"cmp"
	"encoding/binary"
	"math"
	"net/netip"
	"slices"
	"strconv"

	"holdfast/internal/app"
)

// splitCookie is the cookie that keeps a client on its side of a split. Its
// value is 0 to 999, as App Engine's.
const (
	splitCookie = "GOOGAPPUID"
	splitSlots  = 1000
)

// share is one version's part of a split; upTo is where it ends in [0, 1].
type share struct {
	version string
	upTo    float64
}

// shares lays a split out on [0, 1], in the order of the version ids, so that
// every router lays it out alike. Shares that do not sum to 1 are scaled.
func shares(s app.Split) []share {
	var out []share
	sum := 0.0
	for version, part := range s.Shares {
		if part > 0 && !math.IsInf(part, 1) { // NaN is not > 0
			out = append(out, share{version, part})
		}
	}
	slices.SortFunc(out, func(a, b share) int { return cmp.Compare(a.version, b.version) })
	for i := range out {
		sum += out[i].upTo
		out[i].upTo = sum
	}
	for i := range out {
		out[i].upTo /= sum
	}
	return out
}

// divide picks the version at a point of [0, 1). It is "" where nothing has a share.
func divide(all []share, at float64) string {
	for _, s := range all {
		if at < s.upTo {
			return s.version
		}
	}
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1].version // what rounding left over
}

// lot is what a client draws in a split: where it stands in [0, 1), and the
// value of the cookie it must be given to stand there again (-1: none).
type lot struct {
	at     float64
	cookie int
}

// draw finds the client's lot. cookie is the value it sent ("" for none), dice
// is random.
func draw(by app.SplitBy, client netip.Addr, cookie string, dice uint64) lot {
	switch by {
	case app.ByCookie:
		if n, ok := slot(cookie); ok {
			return lot{(float64(n) + 0.5) / splitSlots, -1}
		}
		n := int(dice % splitSlots)
		return lot{(float64(n) + 0.5) / splitSlots, n}
	case app.ByIP:
		return lot{unit(mix(addressHash(client))), -1}
	default:
		return lot{unit(dice), -1}
	}
}

// slot reads a split cookie's value.
func slot(value string) (int, bool) {
	if len(value) == 0 || len(value) > 3 {
		return 0, false
	}
	for i := range len(value) {
		if value[i] < '0' || value[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.Atoi(value)
	return n, err == nil
}

// addressHash is the fingerprint of a client's address. Of IPv6 only the first
// 64 bits count: the rest changes daily with privacy addresses (RFC 8981).
func addressHash(a netip.Addr) uint64 {
	a = a.Unmap()
	b := a.As16()
	if a.Is6() {
		clear(b[8:])
	}
	return binary.BigEndian.Uint64(b[:8]) ^ mix(binary.BigEndian.Uint64(b[8:]))
}

// unit makes a number in [0, 1) of 64 bits.
func unit(h uint64) float64 { return float64(h>>11) / (1 << 53) }

// mix spreads the bits of a number over all of it (the finisher of splitmix64).
func mix(h uint64) uint64 {
	h += 0x9e3779b97f4a7c15
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
