package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// engine.io 4 as its clients speak it: packets of one digit and a text, several of
// them in one answer with a record separator between. socket.io's own connect
// packet rides on top, as without it the server lets go after a while.
const (
	packetOpen    = '0'
	packetClose   = '1'
	packetPing    = '2'
	packetPong    = "3"
	packetUpgrade = "5"
	probePing     = "2probe"
	probePong     = "3probe"
	between       = "\x1e"

	connectPacket = "40" // socket.io: into the main namespace
)

// hello is what an engine.io server opens with.
type hello struct {
	Sid          string
	PingInterval int // milliseconds
	PingTimeout  int
}

// longest is how long a poll may stay open.
func (h hello) longest(patience time.Duration) time.Duration {
	return time.Duration(h.PingInterval+h.PingTimeout)*time.Millisecond + patience
}

// poll is the act of poll: one session, from its handshake to its end.
func (c *client) poll(ctx context.Context) error {
	h, err := c.handshake(ctx)
	if err != nil {
		return err
	}
	if err := c.post(ctx, h, connectPacket); err != nil {
		return err
	}
	c.up()
	if c.probe.Upgrade {
		return c.upgraded(ctx, h)
	}
	// Something is sent now and then, as people do, beside the poll that waits: a
	// pong, which servers take at any time.
	life, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var sending sync.WaitGroup
	sending.Go(func() { // ends with life
		for rest(life, c.probe.Every) == nil {
			if err := c.post(life, h, packetPong); err != nil && life.Err() == nil {
				cancel(err)
			}
		}
	})
	defer sending.Wait()
	defer cancel(nil)
	for {
		packets, err := c.take(life, h)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			c.r.down(c, "")
			if cause := context.Cause(life); cause != nil {
				return cause
			}
			return err
		}
		for _, p := range packets {
			switch {
			case p == "":
			case p[0] == packetPing:
				if err := c.post(life, h, packetPong); err != nil {
					if ctx.Err() == nil {
						c.r.down(c, "")
					}
					return err
				}
			case p[0] == packetClose:
				c.r.down(c, "the server closed the session")
				return nil
			}
		}
	}
}

// handshake begins a session.
func (c *client) handshake(ctx context.Context) (h hello, err error) {
	bound, cancel := c.patience(ctx)
	defer cancel()
	packets, err := c.exchange(bound, http.MethodGet, c.session(hello{}, "polling"), "")
	if err != nil {
		return h, err
	}
	if len(packets) == 0 || packets[0] == "" || packets[0][0] != packetOpen || json.Unmarshal([]byte(packets[0][1:]), &h) != nil || h.Sid == "" {
		return h, troubled("answered a handshake with %q, which is not engine.io 4", gist(strings.Join(packets, " ")))
	}
	return h, nil
}

// session is the path of a request of a session.
func (c *client) session(h hello, transport string) string {
	path, query, _ := strings.Cut(c.probe.Path, "?")
	q := url.Values{"EIO": {"4"}, "transport": {transport}}
	if h.Sid != "" {
		q.Set("sid", h.Sid)
	}
	if query != "" {
		query += "&"
	}
	return path + "?" + query + q.Encode()
}

// take is one poll.
func (c *client) take(ctx context.Context, h hello) ([]string, error) {
	bound, cancel := context.WithTimeoutCause(ctx, h.longest(c.probe.Patience), errImpatient)
	defer cancel()
	return c.exchange(bound, http.MethodGet, c.session(h, "polling"), "")
}

// post sends one packet.
func (c *client) post(ctx context.Context, h hello, packet string) error {
	bound, cancel := c.patience(ctx)
	defer cancel()
	_, err := c.exchange(bound, http.MethodPost, c.session(h, "polling"), packet)
	return err
}

func (c *client) exchange(ctx context.Context, method, path, packet string) ([]string, error) {
	var body io.Reader
	if packet != "" {
		body = strings.NewReader(packet)
	}
	req, err := c.request(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	if packet != "" {
		req.Header.Set("Content-Type", "text/plain;charset=UTF-8")
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, plain(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, refused(res.StatusCode, res.Body)
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, messageMax))
	if err != nil {
		return nil, plain(err)
	}
	return strings.Split(string(text), between), nil
}

// upgraded takes the session over to a WebSocket, and is there to its end.
func (c *client) upgraded(ctx context.Context, h hello) error {
	conn, err := c.open(ctx, c.session(h, "websocket"))
	if err != nil {
		c.r.down(c, "")
		return fmt.Errorf("upgrade: %w", err)
	}
	defer conn.CloseNow()
	stop := context.AfterFunc(ctx, func() { c.farewell(conn) })
	defer stop()
	fail := func(err error) error {
		if ctx.Err() != nil {
			return nil
		}
		if said := (*trouble)(nil); errors.As(err, &said) {
			c.r.down(c, "")
			return said
		}
		return c.parted(ctx, err)
	}
	if err := c.changeOver(ctx, conn); err != nil {
		return fail(err)
	}
	quiet := h.longest(c.probe.Patience)
	for {
		bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), quiet)
		_, text, err := conn.Read(bound)
		late := bound.Err() != nil
		cancel()
		if late {
			return fail(troubled("no ping from the app for %v", quiet))
		}
		if err != nil {
			return fail(err)
		}
		if len(text) > 0 && text[0] == packetPing {
			if err := conn.Write(context.WithoutCancel(ctx), websocket.MessageText, []byte(packetPong)); err != nil {
				return fail(err)
			}
		}
	}
}

// changeOver is engine.io's probe and upgrade.
func (c *client) changeOver(ctx context.Context, conn *websocket.Conn) error {
	bound, cancel := c.patience(context.WithoutCancel(ctx))
	defer cancel()
	if err := conn.Write(bound, websocket.MessageText, []byte(probePing)); err != nil {
		return err
	}
	_, text, err := conn.Read(bound)
	if err != nil {
		return err
	}
	if string(text) != probePong {
		return troubled("upgrade: answered %q to a probe", gist(string(text)))
	}
	return conn.Write(bound, websocket.MessageText, []byte(packetUpgrade))
}
