// Package edge is what faces strangers: it listens, bounds what they may send
// and how slowly, and hands requests on as to any http.Handler. It knows
// nothing of apps, routes or sockets. Start at Listen, TLS and Serve.
package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// HeaderBytes bounds a request's line and headers. App Engine takes some
	// 15 KB; net/http adds 4 KiB of its own to what it is told.
	HeaderBytes = 15 << 10

	// probeIdle and probeCount are when TCP asks a silent client whether it is
	// still there, and how often before it gives up: a phone that vanished is
	// gone after some five minutes. Asking sooner wakes phones' radios.
	probeIdle  = 2 * time.Minute
	probeEvery = 30 * time.Second
	probeCount = 6

	// headerSlop is what net/http adds to MaxHeaderBytes.
	headerSlop = 4 << 10
)

// PortTakenError says that a port, or a Unix socket, could not be listened on
// because somebody else does.
type PortTakenError struct {
	Addr   string
	Holder string // the program and its pid, where they can be found out; else ""
}

func (e *PortTakenError) Error() string {
	what := e.Addr
	if _, port, err := net.SplitHostPort(e.Addr); err == nil && !strings.HasPrefix(what, "unix:") {
		what = "port " + port
	}
	if e.Holder == "" {
		return what + " is taken"
	}
	return fmt.Sprintf("%s is taken by %s", what, e.Holder)
}

// Listen opens a listener at addr, which is host:port, where port 0 takes a free
// one, or unix:PATH. A port or a path in use is a *PortTakenError.
func Listen(addr string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		return listenUnix(path)
	}
	// Connections inherit their keep-alive from the listener where the system
	// has it so, which saves four system calls for each.
	lc := net.ListenConfig{KeepAlive: keepAliveEach, Control: keepAliveAll}
	l, err := lc.Listen(context.Background(), "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		taken := &PortTakenError{Addr: addr}
		if _, port, err := net.SplitHostPort(addr); err == nil {
			if n, err := strconv.Atoi(port); err == nil {
				taken.Holder = holder(n)
			}
		}
		return nil, taken
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return l, nil
}

// Serve hands the requests that arrive at any of ls to h until ctx ends; if h is
// Ahead, it sees connections before. Over TLS that is HTTP/2 as well. Then Serve accepts no more, waits up to
// grace for requests under way, cuts the rest and returns nil. Upgraded
// connections are their taker's business. What is bounded is bounded for all of
// ls together. It owns them, of which there is one at least.
func Serve(ctx context.Context, ls []net.Listener, h http.Handler, limits Limits, grace time.Duration, log *slog.Logger) error {
	var b bursts
	look, enough := context.WithCancel(ctx)
	defer enough()
	go b.run(look) // ends with ctx, or with us

	limits = limits.orDefaults()
	http1, http2 := newServers(h, limits, &b, log)
	inside := newCrowd(limits)

	// A listener that ends by itself ends all: half an edge would be noticed late.
	ahead, _ := h.(Ahead)
	var doors []*door
	ended, left := make(chan error, 2*len(ls)), 0
	serve := func(srv *http.Server, l net.Listener) {
		left++
		addr := l.Addr()
		go func() { ended <- fmt.Errorf("serve %s: %w", addr, srv.Serve(l)) }() // ends with srv
	}
	for _, l := range ls {
		if s, ok := l.(*secure); ok {
			shake := shakeHands(s, limits, inside, log)
			serve(http1, shake.http1)
			serve(http2, shake.http2)
			continue
		}
		l = inside.listener(l)
		if ahead != nil && canPeek {
			d := newDoor(l, ahead, inside.leave, func() { b.upgrades.Add(1) }, log)
			doors, l = append(doors, d), d
		}
		serve(http1, calls{l, inside})
	}
	var failed error
	select {
	case failed = <-ended:
		left--
	case <-ctx.Done():
	}
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	var shut sync.WaitGroup
	for _, srv := range []*http.Server{http1, http2} {
		shut.Go(func() { // ends with patience
			if srv.Shutdown(patience) != nil {
				srv.Close()
			}
		})
	}
	shut.Wait()
	for _, d := range doors {
		d.wait(patience)
	}
	for range left {
		<-ended
	}
	return failed
}

// newServers makes net/http's servers of either protocol: two, because net/http
// knows only of a tls.Conn that it speaks HTTP/2, and what is looked through is
// none any more.
func newServers(h http.Handler, limits Limits, b *bursts, log *slog.Logger) (http1, http2 *http.Server) {
	http1 = &http.Server{
		Handler:           overCalls{h, limits},
		ConnState:         b.state,
		ReadHeaderTimeout: limits.HeaderTime - firstTime,
		IdleTimeout:       limits.IdleTime,
		MaxHeaderBytes:    limits.HeaderBytes - headerSlop,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		Protocols:         new(http.Protocols),
	}
	http1.Protocols.SetHTTP1(true)
	http2 = &http.Server{
		Handler:           overStreams{h, limits},
		ReadHeaderTimeout: limits.HeaderTime,
		IdleTimeout:       limits.IdleTime,
		MaxHeaderBytes:    limits.HeaderBytes,
		ErrorLog:          http1.ErrorLog,
		Protocols:         new(http.Protocols),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          limits.Streams,
			MaxReadFrameSize:              frameMax,
			MaxReceiveBufferPerStream:     streamBuffer,
			MaxReceiveBufferPerConnection: connBuffer,
			WriteByteTimeout:              limits.StallTime,
		},
	}
	http2.Protocols.SetUnencryptedHTTP2(true)
	return http1, http2
}

// streamBuffer and connBuffer are how much of bodies net/http keeps for handlers
// that do not read, in bytes: of one stream, and of all of a connection's. Eight
// may be stuck before the others are; 256 KiB let an upload over 50 ms have 5
// MB/s. frameMax is the size of a frame, in bytes: the least that has to be taken.
const (
	frameMax     = 16 << 10
	streamBuffer = 256 << 10
	connBuffer   = 8 * streamBuffer
)
