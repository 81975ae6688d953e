package probe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"holdfast/internal/app"
)

const (
	// userAgent is what App Engine's checkers call themselves; apps match it to
	// keep checks out of their logs and logins.
	userAgent = "GoogleHC/1.0"

	// answerBytes bounds one answer, head and body together. A check says "ok"
	// or little more; 64 KiB leaves room for a status page, and an endless body
	// costs this much and no more.
	answerBytes = 64 << 10

	// reasonBytes bounds what is said about a failure: it may quote the answer.
	reasonBytes = 200

	// excerptBytes is how much of an answer's body is kept for people, and
	// excerptWait how long that of an answer that fails is waited for: what it says
	// is known already.
	excerptBytes = 200
	excerptWait  = 50 * time.Millisecond

	// interimMax bounds how many 1xx answers may precede the real one.
	interimMax = 5

	// The documented defaults, for a Check whose fields are zero.
	defaultTimeout  = 4 * time.Second
	defaultInterval = 5 * time.Second
)

// Dial opens a connection, as net.Dialer.DialContext does.
type Dial func(ctx context.Context, network, addr string) (net.Conn, error)

// answer is what was said, as far as anything was.
type answer struct {
	status int    // of HTTP; 0: none was asked for, or none came
	body   string // its beginning
}

// ask asks once, and takes at most check.Timeout. No error means the check passed;
// the error says in a few words, for people, why it did not.
//
// Every question has a connection of its own (Connection: close). So it meets
// what a new client would meet, the listen queue included, and an instance that
// only still answers on old connections is not taken for healthy; and nothing
// stays open between two questions. On one machine that costs a fraction of a
// millisecond every few seconds.
func ask(ctx context.Context, dial Dial, addr string, check app.Check) (answer, error) {
	timeout := check.Timeout
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	conn, err := dial(ctx, "tcp", addr)
	if err != nil {
		return answer{}, plain(err, timeout)
	}
	defer conn.Close()
	if check.Path == "" {
		return answer{}, nil // an accepted connection is all that was asked for
	}

	// The context ends reads and writes under way; its deadline is the timeout.
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	said, err := get(conn, addr, check)
	switch {
	case err != nil && ctx.Err() != nil:
		err = fmt.Errorf("GET %s: %w", check.Path, plain(ctx.Err(), timeout))
	case err != nil:
		err = fmt.Errorf("GET %s: %w", check.Path, plain(err, timeout))
	case said.status != http.StatusOK:
		// Redirects are not followed: where they lead is not this instance.
		err = fmt.Errorf("GET %s: answered %d, only 200 passes", check.Path, said.status)
	}
	return said, err
}

// get sends one request over conn and reads its whole answer, up to
// answerBytes. It is written out, without an http.Transport, because that
// would keep goroutines and buffers for what is one exchange.
func get(conn net.Conn, addr string, check app.Check) (said answer, err error) {
	path := check.Path
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	target, err := url.ParseRequestURI(path)
	if err != nil {
		target = &url.URL{Path: path}
	}
	target.Scheme, target.Host = "http", addr
	host := check.Host
	if host == "" {
		host = addr
	}
	req := &http.Request{
		Method: http.MethodGet, URL: target, Host: host,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"User-Agent": {userAgent}, "Accept": {"*/*"}},
		Close:  true,
	}
	if err := req.Write(conn); err != nil {
		return said, err
	}

	limited := &io.LimitedReader{R: conn, N: answerBytes}
	r := bufio.NewReader(limited)
	for range interimMax {
		res, err := http.ReadResponse(r, req)
		if err != nil {
			if limited.N <= 0 {
				return said, errors.New("the answer's head is too long")
			}
			return said, err
		}
		if res.StatusCode < 200 && res.StatusCode != http.StatusSwitchingProtocols {
			continue // RFC 9110, 15.2: interim answers precede the final one
		}
		said.status = res.StatusCode
		var excerpt strings.Builder
		if res.StatusCode != http.StatusOK {
			_ = conn.SetReadDeadline(time.Now().Add(excerptWait)) // an excerpt is no answer
			_, _ = io.CopyN(&excerpt, res.Body, excerptBytes)
			said.body = strings.ToValidUTF8(excerpt.String(), "")
			return said, nil
		}
		_, err = io.CopyN(&excerpt, res.Body, excerptBytes)
		said.body = strings.ToValidUTF8(excerpt.String(), "")
		if err == nil {
			_, err = io.Copy(io.Discard, res.Body)
		} else if err == io.EOF {
			err = nil // all of it
		}
		if limited.N <= 0 {
			err = nil // longer than we care to read; the status has been said
		}
		return said, err
	}
	return said, errors.New("too many interim answers")
}

// plain says in a few words what went wrong on the way to an instance. People
// read it beside the instance's name, so the addresses are left out.
func plain(err error, timeout time.Duration) error {
	var timedOut interface{ Timeout() bool }
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return errors.New("nothing listens on its port")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &timedOut) && timedOut.Timeout():
		return fmt.Errorf("no answer within %v", timeout)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return errors.New("the connection was closed before the answer's end")
	}
	if text := err.Error(); len(text) > reasonBytes {
		return errors.New(strings.ToValidUTF8(text[:reasonBytes], "") + "...")
	}
	return err
}
