package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"net/http"
	"net/url"
	"time"

	"github.com/coder/websocket"

	"holdfast/internal/auth"
)

const (
	// livesMax bounds how many open pages are kept true at once.
	livesMax = 100

	// helloTime is how long a page may take to say which one it is.
	helloTime = 10 * time.Second

	// sendTime is how long a browser may take to read what is new. One that does
	// not is cut; it comes back.
	sendTime = 10 * time.Second

	// beatEvery is how often a page hears from us when nothing is new.
	beatEvery = 15 * time.Second

	// codeSignedOut tells a page that its session has ended.
	codeSignedOut = 4401
)

// fresh is what is new on a page.
type fresh struct {
	Regions map[string]string `json:"regions,omitempty"`
	Charts  []chart           `json:"charts,omitempty"`
	Tail    *tailed           `json:"tail,omitempty"`
}

// charts are on a page that shows some.
type charted interface{ charts() []chart }

// live keeps a page true: the page says where it is, and is sent those of its
// regions that have changed.
func (c *console) live(v *visit) error {
	select {
	case c.lives <- struct{}{}:
		defer func() { <-c.lives }()
	default:
		return &auth.Refusal{Status: http.StatusServiceUnavailable, What: fmt.Sprintf("%d pages are open already, which is the most", livesMax), Next: "Close some, or reload this one by hand."}
	}
	// The bounds of an answer are none of a socket's.
	control := http.NewResponseController(v.w)
	_ = control.SetReadDeadline(time.Time{})
	_ = control.SetWriteDeadline(time.Time{})
	conn, err := websocket.Accept(v.w, v.r, nil) // the origin must be ours; see inside
	if err != nil {
		return nil // it has been answered
	}
	defer conn.CloseNow()
	conn.SetReadLimit(4 << 10)
	// Who has been let in stays: the request's own context ends with the handler.
	ctx, cancel := context.WithCancel(v.r.Context())
	defer cancel()
	go func() { // ends with the server, or with us
		select {
		case <-c.cfg.Goodbye:
			conn.Close(websocket.StatusGoingAway, "shutting-down")
		case <-ctx.Done():
		}
	}()
	hello, stop := context.WithTimeout(ctx, helloTime)
	_, at, err := conn.Read(hello)
	stop()
	if err != nil {
		return nil
	}
	if err := c.keepTrue(conn.CloseRead(ctx), conn, v, string(at)); err != nil {
		conn.Close(websocket.StatusPolicyViolation, err.Error())
	}
	return nil
}

// keepTrue sends what changes on the page at until ctx ends. An error is for the
// page.
func (c *console) keepTrue(ctx context.Context, conn *websocket.Conn, v *visit, at string) error {
	u, err := url.Parse(at)
	if err != nil {
		return fmt.Errorf("no such page")
	}
	// The same way that the page itself was found.
	asked := &http.Request{Method: http.MethodGet, URL: u, Host: v.r.Host, RequestURI: at, Header: v.r.Header}
	p, asked := c.pageAt(asked)
	if p == nil {
		return fmt.Errorf("no such page")
	}
	if p.follow != nil && u.Query().Get("follow") != "" {
		return p.follow(ctx, conn, v, &visit{c: c, r: asked, who: v.who, now: time.Now()})
	}
	every := time.Duration(max(1, p.every)) * time.Second
	tick := time.NewTicker(every)
	defer tick.Stop()
	seed := maphash.MakeSeed()
	sent, beat := map[string]uint64{}, time.Now()
	for {
		if _, ok := c.cfg.Sessions.Who(v.r); !ok {
			conn.Close(codeSignedOut, "signed out")
			return nil
		}
		page := &visit{c: c, r: asked, who: v.who, now: time.Now()}
		f, err := c.frame(page, *p)
		if err != nil {
			return err // such as an instance that is gone
		}
		var news fresh
		for name, html := range f.regions {
			if sum := maphash.String(seed, string(html)); sent[name] != sum {
				if news.Regions == nil {
					news.Regions = map[string]string{}
				}
				news.Regions[name], sent[name] = string(html), sum
			}
		}
		if of, is := f.Data.(charted); is {
			for _, ch := range of.charts() {
				text, _ := json.Marshal(ch) // plain values
				if sum := maphash.Bytes(seed, text); sent["chart "+ch.ID] != sum {
					news.Charts = append(news.Charts, ch)
					sent["chart "+ch.ID] = sum
				}
			}
		}
		if news.Regions != nil || news.Charts != nil || time.Since(beat) > beatEvery {
			if err := send(ctx, conn, news); err != nil {
				return nil
			}
			beat = time.Now()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// errGone says that nobody is there any more.
var errGone = errors.New("the page is gone")

// send tells a page what is new, or returns errGone.
func send(ctx context.Context, conn *websocket.Conn, news fresh) error {
	text, err := json.Marshal(news)
	if err != nil {
		panic(err) // plain values only
	}
	ctx, stop := context.WithTimeout(ctx, sendTime)
	defer stop()
	if conn.Write(ctx, websocket.MessageText, text) != nil {
		return errGone
	}
	return nil
}

// pageAt is the page that a request asks for, nil for none, and the request as
// the page's handler would have it.
func (c *console) pageAt(r *http.Request) (*page, *http.Request) {
	mux := http.NewServeMux()
	var found *page
	var asked *http.Request
	for _, p := range c.pages() {
		mux.HandleFunc("GET "+Prefix+p.path, func(_ http.ResponseWriter, r *http.Request) { found, asked = &p, r })
	}
	mux.ServeHTTP(nothing{}, r)
	return found, asked
}

// nothing is where an answer goes that nobody wants.
type nothing struct{}

func (nothing) Header() http.Header         { return http.Header{} }
func (nothing) Write(p []byte) (int, error) { return len(p), nil }
func (nothing) WriteHeader(int)             {}

func (o overview) charts() (all []chart) {
	for _, s := range o.Services {
		all = append(all, s.Chart)
	}
	return all
}
