package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/logs"
)

// Print says whose lines are written to standard output.
type Print struct{ Requests, Apps bool }

func (p Print) any() bool { return p.Requests || p.Apps }

const (
	// printBuffer is how much is written to standard output at once, in bytes.
	printBuffer = 64 << 10

	// printTime is how long the last lines may take in the end: a reader who has
	// stopped reading must not keep us.
	printTime = 2 * time.Second
)

// print writes lines to standard output as they come into the logs, until ctx
// ends, and those that are there then. It reads them from the files: so a reader
// who is slow holds up nobody, and misses lines only where the files are rotated
// past him. When nobody reads any more it says so once, and waits for ctx. It
// returns within printTime of its end.
func (s *Server) print(ctx context.Context) error {
	// A write to descriptor 1 after its reader has left would end us (os/signal,
	// "SIGPIPE"); one to a copy of it only fails.
	fd, err := unix.FcntlInt(os.Stdout.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		s.cfg.Log.Error("lines of logs are not written to standard output", "err", err)
		return nil
	}
	file := os.NewFile(uintptr(fd), "standard output")
	out := bufio.NewWriterSize(file, printBuffer)
	q := logs.Query{Requests: s.cfg.Print.Requests, RequestsOnly: !s.cfg.Print.Apps, Level: logs.Any, Since: s.started}
	over := make(chan struct{})
	go func() { // ends with ctx, or when a write does, which nobody can end where the reader rests
		defer close(over)
		defer file.Close()
		err := logs.Watch(ctx, s.LogDir(), q, func(found []logs.Entry) error {
			for _, e := range found {
				out.Write(printed(e)) // Flush tells
			}
			return out.Flush()
		})
		if err != nil {
			s.cfg.Log.Error("nothing is written to standard output any more", "err", err)
		}
	}()
	<-ctx.Done()
	select {
	case <-over:
	case <-time.After(printTime):
		s.cfg.Log.Warn("nobody reads standard output; the last lines of the logs are not there")
	}
	return nil
}

// printed is an entry as one line of JSON: a request's and a socket's as it stands
// in its file, and an app's in the same words.
func printed(e logs.Entry) []byte {
	if e.Stream == logs.Request && json.Valid([]byte(e.Text)) {
		return append([]byte(e.Text), '\n')
	}
	var b bytes.Buffer
	_ = json.NewEncoder(&b).Encode(struct {
		Time     time.Time `json:"time"`
		Level    string    `json:"level"`
		Msg      string    `json:"msg"`
		App      string    `json:"app,omitempty"`
		Service  string    `json:"service,omitempty"`
		Version  string    `json:"version,omitempty"`
		Instance string    `json:"instance"`
		Stream   string    `json:"stream"`
		Text     string    `json:"text"`
	}{e.Time, e.Level.String(), "line", e.Key.App, e.Key.Service, e.Key.Version, e.Instance, string(e.Stream), e.Text}) // plain values, and a buffer takes all
	return b.Bytes()
}
