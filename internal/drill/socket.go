package drill

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// messageMax bounds what an app may send in one message.
const messageMax = 1 << 20

// socket is the act of ws: one WebSocket, from its opening to its end. It is pinged
// all the time, or sent numbered messages that come back.
func (c *client) socket(ctx context.Context) error {
	conn, err := c.open(ctx, c.probe.Path)
	if err != nil {
		return err
	}
	defer conn.CloseNow()
	c.up()
	life, cancel := context.WithCancelCause(ctx)
	// The end of life ends the socket: politely where it is the drill's end.
	gone := make(chan struct{})
	stop := context.AfterFunc(life, func() {
		defer close(gone)
		if ctx.Err() != nil {
			c.farewell(conn)
		} else {
			conn.CloseNow()
		}
	})
	letters := &letters{open: map[string]time.Time{}}
	var speaking sync.WaitGroup
	speaking.Go(func() { c.speak(life, cancel, conn, letters) }) // ends with life
	defer func() {
		if stop() {
			cancel(nil)
		} else {
			<-gone // bounded by farewellTime
		}
		speaking.Wait()
	}()
	for {
		_, text, err := conn.Read(context.WithoutCancel(ctx))
		if err == nil {
			if c.probe.Echo {
				c.r.answered(letters.came(string(text)))
			}
			continue
		}
		if ctx.Err() != nil {
			return nil // the drill is over
		}
		c.r.lost(letters.left())
		if said := (*trouble)(nil); errors.As(context.Cause(life), &said) {
			c.r.down(c, "")
			return said
		}
		return c.parted(ctx, err)
	}
}

// farewellTime bounds our own goodbye.
const farewellTime = time.Second

func (c *client) farewell(conn *websocket.Conn) {
	// Its bound is the library's own, 5 s; who does not answer is cut sooner.
	late := time.AfterFunc(farewellTime, func() { conn.CloseNow() })
	defer late.Stop()
	_ = conn.Close(websocket.StatusNormalClosure, "") // it is the end in any case
}

// open opens a WebSocket.
func (c *client) open(ctx context.Context, path string) (*websocket.Conn, error) {
	bound, cancel := c.patience(ctx)
	defer cancel()
	h := c.header()
	h.Set("Origin", c.base)
	conn, res, err := websocket.Dial(bound, c.base+path, &websocket.DialOptions{HTTPClient: c.http, HTTPHeader: h})
	if err != nil {
		if res != nil && res.StatusCode != 101 {
			return nil, refused(res.StatusCode, res.Body)
		}
		return nil, plain(err)
	}
	conn.SetReadLimit(messageMax)
	return conn, nil
}

// speak pings, or sends messages, until the socket ends; it ends it when there is
// no answer in time.
func (c *client) speak(ctx context.Context, cancel context.CancelCauseFunc, conn *websocket.Conn, l *letters) {
	for n := 1; rest(ctx, c.probe.Every) == nil; n++ {
		if !c.probe.Echo {
			bound, done := c.patience(ctx)
			err := conn.Ping(bound)
			done()
			if err != nil && ctx.Err() == nil && bound.Err() != nil {
				cancel(troubled("no pong within %v", c.probe.Patience))
			}
			continue
		}
		if l.waits(c.probe.Patience) {
			cancel(troubled("a message had no answer within %v", c.probe.Patience))
			return
		}
		text := fmt.Sprintf("holdfast-drill %s %d %d", c.mark, c.n, n)
		l.sent(text)
		c.r.sent(1)
		bound, done := c.patience(ctx)
		_ = conn.Write(bound, websocket.MessageText, []byte(text)) // the reader tells why not
		done()
	}
}

// letters is the messages of one socket that have no answer yet.
type letters struct {
	mu   sync.Mutex // guards the following
	open map[string]time.Time
	past []string // answered lately, at most pastMost
}

// pastMost is how many answered messages are remembered, to notice a second answer.
const pastMost = 64

func (l *letters) sent(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[text] = time.Now()
}

// came says whether a message is an answer, and whether it is a second one. An app
// may say other things too.
func (l *letters) came(text string) (answers, doubled int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for sent := range l.open {
		if strings.Contains(text, sent) && !digit(text, sent) {
			delete(l.open, sent)
			l.past = append(l.past, sent)
			l.past = l.past[max(0, len(l.past)-pastMost):]
			return 1, 0
		}
	}
	for _, sent := range l.past {
		if strings.Contains(text, sent) && !digit(text, sent) {
			return 0, 1
		}
	}
	return 0, 0
}

// digit says whether what follows sent in text goes on with its number.
func digit(text, sent string) bool {
	_, rest, _ := strings.Cut(text, sent)
	return rest != "" && rest[0] >= '0' && rest[0] <= '9'
}

func (l *letters) waits(patience time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, at := range l.open {
		if time.Since(at) > patience {
			return true
		}
	}
	return false
}

func (l *letters) left() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.open)
}
