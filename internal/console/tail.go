package console

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/coder/websocket"

	"holdfast/internal/app"
	"holdfast/internal/logs"
)

const (
	// tailEach is how many lines a page that follows is sent at once, ten times a
	// second at most: a browser draws no more. Others are skipped, and the page
	// says how many.
	tailEach = 200

	// tailBack is how much before the last line that a page has it is told again
	// after it was cut off: lines of several logs come a little out of order. It
	// knows those again that it has.
	tailBack = time.Second

	// whoEvery is how often a page that follows is asked whether it still may.
	whoEvery = time.Second
)

// tailed is what a page that follows is sent.
type tailed struct {
	HTML    string `json:"html"` // items of a list
	Skipped int    `json:"skipped,omitempty"`
	First   bool   `json:"first,omitempty"` // of this connection: some may be known
}

var errSignedOut = errors.New("signed out")

// tail sends the lines that a page of logs is about, as they are written, until
// ctx ends. What a browser is slow to take is read later; only what is rotated
// away meanwhile is lost.
func (c *console) tail(ctx context.Context, conn *websocket.Conn, v *visit, page *visit) error {
	asked := page.r.URL.Query()
	p, query, err := c.logsQuery(asked)
	if err != nil {
		return err
	}
	again := asked.Get("after") != ""
	if again {
		last, err := time.Parse(time.RFC3339Nano, asked.Get("after"))
		if err != nil {
			return fmt.Errorf("after %.40q: %w", asked.Get("after"), app.ErrInvalid)
		}
		if since := last.Add(-tailBack); since.After(query.Since) {
			query.Since = since
		}
		query.Limit = logs.LimitMax
	}
	first, asking, beat := true, time.Now(), time.Now()
	err = logs.Watch(ctx, c.LogDir, query, func(found []logs.Entry) error {
		if time.Since(asking) > whoEvery {
			if _, ok := c.cfg.Sessions.Who(v.r); !ok {
				return errSignedOut
			}
			asking = time.Now()
		}
		var lines []logs.Entry
		for _, e := range found {
			if mentions(e, p.Text) {
				lines = append(lines, e)
			}
		}
		news := tailed{First: first, Skipped: max(0, len(lines)-tailEach)}
		lines = lines[news.Skipped:]
		if first && !again {
			news.Skipped = 0 // what was before is a search away
		}
		if len(lines) == 0 && !first && time.Since(beat) < beatEvery {
			return nil
		}
		if news.HTML, err = c.linesText(lines); err != nil {
			return err
		}
		first, beat = false, time.Now()
		return send(ctx, conn, fresh{Tail: &news})
	})
	switch {
	case errors.Is(err, errSignedOut):
		conn.Close(codeSignedOut, err.Error())
		return nil
	case errors.Is(err, errGone):
		return nil
	}
	return err
}

// linesText renders lines as items of a list.
func (c *console) linesText(lines []logs.Entry) (string, error) {
	of := c.templates["logs"].Lookup("line")
	var b strings.Builder
	for _, e := range lines {
		if err := of.Execute(&b, lineOf(e)); err != nil {
			return "", err
		}
	}
	return b.String(), nil
}
