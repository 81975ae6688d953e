package admin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	// followWait is how long one question of Follow waits for a change.
	followWait = 25 * time.Second

	// lostMax is how long Follow asks a server that does not answer, and lostPause
	// how often: a server starts within a second, a machine within minutes, and
	// the operation goes on by itself.
	lostMax   = 2 * time.Minute
	lostPause = 500 * time.Millisecond

	// silenceMax is how long a stream may be without even a heartbeat before the
	// client takes the server for gone.
	silenceMax = 4 * heartbeat

	// lineMax bounds one line of a stream: a line of a log is 16 KiB, and JSON may
	// write six bytes for one.
	lineMax = 256 << 10
)

// Follow waits until the operation has ended and returns it as it is then;
// whether it went well is in its Failure. update, which may be nil, is called
// with every stage that is seen, the first one at once. A server that is away
// is asked again for lostMax: operations outlive it. When ctx ends its error is
// returned, and the operation goes on.
func (c *Client) Follow(ctx context.Context, id string, update func(Operation)) (Operation, error) {
	seen := Operation{}
	var lost time.Time // since when nothing is heard
	for {
		op, err := c.await(ctx, id, seen.Stage)
		var e *Error
		switch {
		case err == nil:
			lost = time.Time{}
			if update != nil && op.Stage != seen.Stage {
				update(op)
			}
			if seen = op; op.Done() {
				return op, nil
			}
			continue
		case !errors.As(err, &e) || (e.Kind != KindUnreachable && e.Kind != KindUnavailable):
			return seen, err
		case lost.IsZero():
			lost = time.Now()
		case time.Since(lost) > lostMax:
			return seen, err
		}
		select {
		case <-time.After(lostPause):
		case <-ctx.Done():
			return seen, ctx.Err()
		}
	}
}

// await asks once, and is answered when the operation's stage is another one
// than seen, or after a while. With seen "" that is at once.
func (c *Client) await(ctx context.Context, id, seen string) (Operation, error) {
	l := call{method: http.MethodGet, path: []string{"operations", id}}
	if seen != "" {
		l.query = url.Values{"wait": {strconv.Itoa(int(followWait.Seconds()))}, "stage": {seen}}
	}
	var none Operation
	// A server that hangs, or a machine that was unplugged, must be noticed too.
	asking, stop := context.WithTimeout(ctx, followWait+silenceMax)
	defer stop()
	resp, err := c.send(asking, l)
	if err == nil {
		defer resp.Body.Close()
		var op Operation
		if op, err = read[Operation](asking, c, resp.Body); err == nil {
			return op, nil
		}
	}
	if ctx.Err() == nil && asking.Err() != nil {
		return none, &Error{Kind: KindUnreachable, err: err, Message: fmt.Sprintf("the server at %s has not answered for %v", c.URL, followWait+silenceMax)}
	}
	return none, err
}

// lines reads a stream of log lines.
func (c *Client) lines(ctx context.Context, l call, fn func(LogLine) error) error {
	reading, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	silent := &Error{Kind: KindUnreachable, Message: fmt.Sprintf("nothing has come from the server at %s for %v", c.URL, silenceMax)}
	watch := time.AfterFunc(silenceMax, func() { stop(silent) })
	defer watch.Stop()

	failed := func(err error) error {
		if ctx.Err() == nil && context.Cause(reading) == silent {
			return silent
		}
		return c.unreachable(ctx, err)
	}
	resp, err := c.send(reading, l)
	if err != nil {
		var e *Error
		if errors.As(err, &e) {
			return err
		}
		return failed(err)
	}
	defer resp.Body.Close()
	scan := bufio.NewScanner(resp.Body)
	scan.Buffer(make([]byte, 0, 4096), lineMax)
	for scan.Scan() {
		// While fn works nobody reads, which is no silence of the server's.
		watch.Stop()
		if len(bytes.TrimSpace(scan.Bytes())) > 0 { // else a heartbeat
			if err := c.line(scan.Bytes(), fn); err != nil {
				return err
			}
		}
		watch.Reset(silenceMax)
	}
	switch err := scan.Err(); {
	case err == nil:
		return nil
	case errors.Is(err, bufio.ErrTooLong):
		return c.strange(err)
	case errors.Is(err, io.ErrUnexpectedEOF) && ctx.Err() == nil && context.Cause(reading) == nil:
		return c.unreachable(ctx, errors.New("it broke off in the middle"))
	default:
		return failed(err)
	}
}

// line hands one line on. A line may also be the error that ended the stream.
func (c *Client) line(raw []byte, fn func(LogLine) error) error {
	var l struct {
		LogLine
		wireError
	}
	if err := json.Unmarshal(raw, &l); err != nil {
		return c.strange(err)
	}
	if l.Error.Kind != "" {
		return &Error{Kind: l.Error.Kind, Message: l.Error.Message, Next: l.Error.Next}
	}
	return fn(l.LogLine)
}
