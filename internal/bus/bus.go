// Package bus carries messages between the instances of an app: an endpoint
// that speaks the Redis protocol, RESP 2 and 3, and of its commands only those
// that publish and subscribe. Applications are apart: each has its own
// credentials and its own names, and cannot see another's. It stores nothing,
// and must not know what an instance is. Start at Bus and Run; then space.go
// for who gets a message, and conn.go for how it gets there.
//
// Locks: a space's before a connection's, never the other way round.
package bus

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// What one endpoint, one application and one connection may have. Apps are
// guests: a mistake in one must end before the others notice.
const (
	connsMax       = 4000 // of all; a descriptor each, and 7 KB while nothing happens
	strangersMax   = 200  // connections that have not said yet who they are
	connsPerAppMax = 1000 // 20 instances with 50 each, as pools of workers open

	channelsPerConnMax = 10_000  // names that one connection may be subscribed to, of all kinds
	channelsPerAppMax  = 100_000 // subscriptions of all connections, of all kinds
	patternsPerAppMax  = 1000    // different ones: each message is compared with each
	nameBytesMax       = 1024    // of a channel
	patternBytesMax    = 256     // of a pattern; bounds what a comparison costs

	messageBytesMax = 4 << 20   // of one argument; socket.io sends up to 1 MB by default
	queueBytesMax   = 8 << 20   // waiting for one connection, then it is cut
	heldBytesMax    = 128 << 20 // waiting for all connections of an app, and half read from them

	authTime  = 10 * time.Second // to say who one is
	stallTime = 60 * time.Second // for a connection to take the next 64 KiB
)

// Config is what a bus is told once.
type Config struct {
	Secret []byte // of this installation: passwords are derived from it
	Log    *slog.Logger
}

// Bus is one endpoint.
type Bus struct {
	cfg     Config
	scratch sync.Pool // of *[]byte, for writes

	mu        sync.Mutex // guards the following
	spaces    map[string]*space
	conns     map[*conn]struct{}
	strangers int
	lastID    int64
}

// New makes a bus that Run serves.
func New(cfg Config) *Bus {
	return &Bus{
		cfg:     cfg,
		scratch: sync.Pool{New: func() any { b := make([]byte, writeBytes); return &b }},
		spaces:  map[string]*space{},
		conns:   map[*conn]struct{}{},
	}
}

// Stats is what an application does with the bus: what is open now, and what
// happened since the bus began.
type Stats struct {
	Connections   int
	Channels      int   // that somebody is subscribed to, sharded ones too
	Patterns      int   // different ones
	Subscriptions int   // of all kinds
	Published     int64 // messages taken
	Delivered     int64 // messages handed to subscribers, once for each
	Cut           int64 // connections that were cut because too much waited for them
}

// Stats tells about every application that ever connected.
func (b *Bus) Stats() map[string]Stats {
	b.mu.Lock()
	spaces := maps.Clone(b.spaces)
	b.mu.Unlock()
	all := make(map[string]Stats, len(spaces))
	for app, s := range spaces {
		all[app] = s.stats()
	}
	return all
}

// Password is what an application connects with: always the same for one
// secret, so that nothing has to be kept.
func (b *Bus) Password(app string) string {
	mac := hmac.New(sha256.New, b.cfg.Secret)
	mac.Write([]byte("holdfast bus password\x00" + app))
	return hex.EncodeToString(mac.Sum(nil)[:16]) // 128 bits are beyond guessing
}

// URL is where an application finds the bus that listens at addr.
func (b *Bus) URL(addr net.Addr, app string) string {
	u := url.URL{Scheme: "redis", User: url.UserPassword(app, b.Password(app)), Host: addr.String(), Path: "/0"}
	return u.String()
}

// Listen listens on a port of this machine alone, the same one as before if
// that is free: instances that outlived us look for it there. The port is kept
// in the file at path. The second result says that it had to be another one.
func Listen(path string) (l net.Listener, moved bool, err error) {
	const host = "127.0.0.1"
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, false, fmt.Errorf("the bus's port: %w", err)
	}
	if port, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 16); err == nil && port > 0 {
		l, err = net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
		if err == nil {
			return l, false, nil
		}
		moved = true
	}
	if l, err = net.Listen("tcp", net.JoinHostPort(host, "0")); err != nil {
		return nil, false, fmt.Errorf("the bus: %w", err)
	}
	if err := keepPort(path, l.Addr().(*net.TCPAddr).Port); err != nil {
		l.Close()
		return nil, false, fmt.Errorf("keep the bus's port: %w", err)
	}
	return l, moved, nil
}

// keepPort writes beside and renames: a crash leaves the old port or the new.
func keepPort(path string, port int) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".bus-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it is renamed
	_, err = fmt.Fprintln(f, port)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// acceptPause is how long we wait when there are no descriptors left.
const acceptPause = 50 * time.Millisecond

// Run serves connections from l until ctx ends, then cuts what is open, and
// returns when all has ended. It closes l. It is called once.
func (b *Bus) Run(ctx context.Context, l net.Listener) error {
	defer context.AfterFunc(ctx, func() { l.Close() })()
	defer l.Close()
	var open sync.WaitGroup
	defer open.Wait()
	defer b.cutAll()
	for {
		nc, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				nc.Close()
			}
			return nil
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ECONNABORTED):
			select {
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
			continue
		case err != nil:
			return fmt.Errorf("the bus: %w", err)
		}
		c, refused := b.admit(nc)
		if refused != "" {
			// A new connection's buffer takes so little without waiting.
			_, _ = nc.Write(appendError(nil, refused))
			nc.Close()
			continue
		}
		open.Go(c.serve) // ends when the connection does, which cutAll sees to
	}
}

// admit takes a connection in, or says why not.
func (b *Bus) admit(nc net.Conn) (*conn, string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.conns) >= connsMax || b.strangers >= strangersMax {
		return nil, "ERR max number of clients reached"
	}
	b.lastID++
	b.strangers++
	c := newConn(b, nc, b.lastID)
	b.conns[c] = struct{}{}
	return c, ""
}

func (b *Bus) cutAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.conns {
		c.net.Close()
	}
}

// left forgets a connection.
func (b *Bus) left(c *conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.conns, c)
	if c.space == nil {
		b.strangers--
	}
}

// enter finds the space of an application for a connection that said so well
// who it is. What it returns is for the client.
func (b *Bus) enter(c *conn, user, password string) (refused string) {
	if !hmac.Equal([]byte(password), []byte(b.Password(user))) {
		return "WRONGPASS invalid username-password pair or user is disabled."
	}
	if c.space != nil {
		if c.space.app != user {
			// What it is counted for would be half here, half there.
			return "ERR this connection belongs to another application; open a new one"
		}
		return ""
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.spaces[user]
	if s == nil {
		s = newSpace(user)
		b.spaces[user] = s
	}
	if !s.admit() {
		return fmt.Sprintf("ERR max number of clients reached: an application may have %d connections here", connsPerAppMax)
	}
	b.strangers--
	c.space = s
	return ""
}
