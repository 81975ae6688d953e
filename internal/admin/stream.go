package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// stream is an answer that comes in lines of JSON, with an empty line now and
// then, so that both ends notice when the other is gone. One goroutine uses it.
type stream struct {
	control *http.ResponseController
	out     *bufio.Writer
	written time.Time // when something was sent last
}

func newStream(w http.ResponseWriter) *stream {
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would keep lines until it has many
	return &stream{control: http.NewResponseController(w), out: bufio.NewWriterSize(patient{w, http.NewResponseController(w)}, 32<<10)}
}

// line writes one line, which flush sends.
func (s *stream) line(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain values only
	}
	_, err = s.out.Write(append(text, '\n'))
	return err
}

// flush sends what was written, or a sign of life when nothing was for a while.
// The first one is due at once: it tells the client that the stream has begun.
func (s *stream) flush() error {
	if s.out.Buffered() == 0 {
		if time.Since(s.written) < heartbeat {
			return nil
		}
		if err := s.out.WriteByte('\n'); err != nil {
			return err
		}
	}
	if err := s.out.Flush(); err != nil {
		return err
	}
	s.written = time.Now()
	return s.control.Flush()
}

// fail ends a stream that has begun with the error that ended it.
func (s *stream) fail(e *Error) {
	if s.line(e.wire()) == nil {
		_ = s.flush() // who does not hear it is gone
	}
}

// patient gives every write a time of its own.
type patient struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func (p patient) Write(b []byte) (int, error) {
	_ = p.control.SetWriteDeadline(time.Now().Add(writeTime)) // not all can; see ServeHTTP
	return p.w.Write(b)
}

// lasting is the request's context, which also ends when the server does. stop
// must be called.
func (d *door) lasting(a *visit) (ctx context.Context, stop func()) {
	ctx, stop = context.WithCancel(a.Context())
	go func() { // ends with ctx
		select {
		case <-d.cfg.Goodbye:
			stop()
		case <-ctx.Done():
		}
	}()
	return ctx, stop
}
