package drill

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// answerMax is how much of an answer is read: a page, not a download.
const answerMax = 4 << 20

// ask is the act of http: it asks again and again as long as it is answered.
func (c *client) ask(ctx context.Context) error {
	for {
		if err := c.askOnce(ctx); err != nil {
			if ctx.Err() == nil {
				c.r.down(c, "")
			}
			return err
		}
		c.up()
		if rest(ctx, c.probe.Every) != nil {
			return nil
		}
	}
}

func (c *client) askOnce(ctx context.Context) error {
	bound, cancel := c.patience(ctx)
	defer cancel()
	req, err := c.request(bound, http.MethodGet, c.probe.Path, nil)
	if err != nil {
		return err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return plain(err)
	}
	defer res.Body.Close()
	if res.StatusCode >= 400 {
		return refused(res.StatusCode, res.Body)
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(res.Body, answerMax)); err != nil {
		return plain(err)
	}
	return nil
}

// lineMax bounds a line of an event stream.
const lineMax = 1 << 20

// events is the act of sse: one stream, from its beginning to its end.
func (c *client) events(ctx context.Context) error {
	// The stream lasts; only its beginning is waited for.
	life, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	req, err := c.request(life, http.MethodGet, c.probe.Path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/event-stream")
	if last := c.r.lastEvent(c); last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	bound, stop := c.patience(life)
	defer stop()
	begun := context.AfterFunc(bound, func() { cancel(errImpatient) })
	res, err := c.http.Do(req)
	if !begun() && err == nil {
		res.Body.Close()
		err = errImpatient
	}
	if err != nil {
		return plain(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return refused(res.StatusCode, res.Body)
	}
	if kind := res.Header.Get("Content-Type"); !strings.HasPrefix(kind, "text/event-stream") {
		return troubled("answered with %q, which is no event stream", gist(kind))
	}
	c.up()
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, lineMax)
	for lines.Scan() {
		if id, ok := strings.CutPrefix(lines.Text(), "id:"); ok {
			c.r.event(c, strings.TrimSpace(id))
		}
	}
	if ctx.Err() == nil {
		c.r.down(c, "the stream ended")
	}
	return nil
}

// number is what can be counted in an event's id.
func number(id string) (int64, bool) {
	n, err := strconv.ParseInt(id, 10, 64)
	return n, err == nil && n >= 0
}
