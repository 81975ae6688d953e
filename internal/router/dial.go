package router

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// dialTimeout bounds one attempt to connect: a machine's own instances
	// answer in microseconds, one in another zone in milliseconds, and a full
	// accept queue shows by a SYN that is sent again after a second.
	dialTimeout = 3 * time.Second

	// keepAlive is the probe interval of instance connections, for peers that
	// vanish without a word.
	keepAlive = 30 * time.Second

	// loopbackSources is how many addresses of 127.0.0.0/8 a machine's own
	// instances are dialled from: each has some 28,000 ports, and more than
	// 400,000 sockets to one instance would meet other limits first.
	loopbackSources = 16
)

// sources are the local addresses that instances are dialled from. A
// connection is named by two addresses and two ports, so one source reaches one
// instance as often as there are ephemeral ports. The system's own choice comes
// first, because apps know it: many believe X-Forwarded-For from 127.0.0.1
// alone. Only when it has no port left do the others follow, in turn.
type sources struct {
	near  net.Dialer // to our own machine, where no peer vanishes without a word
	far   net.Dialer
	given []netip.Addr // for instances on other machines

	loopback, remote atomic.Uint32 // the source that worked last; 0: the system's choice
}

func newSources(given []netip.Addr) *sources {
	return &sources{
		near:  net.Dialer{Timeout: dialTimeout, KeepAlive: -1},
		far:   net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive},
		given: given,
	}
}

// dial connects to addr, host:port.
func (s *sources) dial(ctx context.Context, addr string) (net.Conn, error) {
	dialer, turn, count := &s.far, &s.remote, uint32(len(s.given))+1
	to, err := netip.ParseAddrPort(addr)
	onLoopback := err == nil && to.Addr().Unmap().Is4() && to.Addr().IsLoopback()
	if onLoopback {
		dialer, turn, count = &s.near, &s.loopback, loopbackSources
	}
	first := turn.Load()
	for i := range count {
		nth := (first + i) % count
		conn, err := from(ctx, dialer, addr, s.source(nth, onLoopback))
		if err == nil {
			if nth != first {
				turn.Store(nth)
			}
			return conn, nil
		}
		if !errors.Is(err, syscall.EADDRNOTAVAIL) || i == count-1 {
			return nil, err
		}
	}
	panic("unreachable: count is at least one")
}

// source is the nth local address; the zeroth is the system's choice.
func (s *sources) source(nth uint32, loopback bool) netip.Addr {
	switch {
	case nth == 0:
		return netip.Addr{}
	case loopback:
		return netip.AddrFrom4([4]byte{127, 0, 0, byte(1 + nth)})
	default:
		return s.given[nth-1]
	}
}

func from(ctx context.Context, dialer *net.Dialer, addr string, source netip.Addr) (net.Conn, error) {
	if !source.IsValid() {
		return dialer.DialContext(ctx, "tcp", addr)
	}
	d := *dialer
	d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
	d.Control = latePort
	return d.DialContext(ctx, "tcp", addr)
}
