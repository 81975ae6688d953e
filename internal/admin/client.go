package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// tries is how often a request that may be sent again is sent, and retryPause
	// how long the client waits before the second; it doubles. Together they ride
	// over a dropped connection or a busy moment; a server that starts again
	// takes longer, which Follow knows.
	tries      = 4
	retryPause = 200 * time.Millisecond

	// retryMax bounds what a Retry-After makes the client wait.
	retryMax = 5 * time.Second

	// answerMax bounds an answer that is not a stream: all versions of a large
	// server are a few MiB.
	answerMax = 64 << 20
)

// Client speaks to a server's door. Its fields are set before its first use;
// its methods may then be called from several goroutines. They return *Error
// for everything that the server refuses or that keeps it from being reached,
// and the context's error when that ends first. What only reads, and uploads,
// which change nothing when they come twice, are tried again a few times.
type Client struct {
	URL   string       // of the server, http://host:port
	Token string       // bearer token
	By    string       // who asks, for people; "": the token's name
	HTTP  *http.Client // nil: http.DefaultClient. It must not have a Timeout: streams last
}

// call is one request.
type call struct {
	method string
	path   []string // below Prefix; escaped here
	query  url.Values
	body   any // as JSON; nil: none
}

// safe says whether the call may be sent twice.
func (c call) safe() bool { return c.method == http.MethodGet }

// ask sends a call, again where that is safe, and reads its answer.
func ask[T any](ctx context.Context, c *Client, l call) (T, error) {
	var answer T
	err := c.again(ctx, l.safe(), func() error {
		resp, err := c.send(ctx, l)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		answer, err = read[T](ctx, c, resp.Body)
		return err
	})
	return answer, err
}

// read reads an answer that is one JSON value.
func read[T any](ctx context.Context, c *Client, r io.Reader) (T, error) {
	var answer, none T
	data, err := io.ReadAll(io.LimitReader(r, answerMax+1))
	switch {
	case err != nil:
		return none, c.unreachable(ctx, err)
	case len(data) > answerMax:
		return none, &Error{Kind: KindInternal, Message: fmt.Sprintf("%s answers more than %d bytes", c.URL, answerMax), Next: "Ask for less with a filter."}
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return none, c.strange(err)
	}
	return answer, nil
}

// again calls fn, and while it may be called again and the error allows it, a
// few times more.
func (c *Client) again(ctx context.Context, safe bool, fn func() error) error {
	pause := retryPause
	for try := 1; ; try++ {
		err := fn()
		var e *Error
		if err == nil || !safe || try == tries || !errors.As(err, &e) || (e.Kind != KindUnreachable && e.Kind != KindUnavailable) {
			return err
		}
		// Jittered: many uploads that were refused together do not come back together.
		wait := min(max(pause/2+rand.N(pause), e.Retry), retryMax)
		pause *= 2
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// send sends a call once. The response is a good one, and the caller closes it.
func (c *Client) send(ctx context.Context, l call) (*http.Response, error) {
	var body io.Reader
	if l.body != nil {
		text, err := json.Marshal(l.body)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text)
	}
	req, err := c.request(ctx, l, body)
	if err != nil {
		return nil, err
	}
	if l.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return c.exchange(req)
}

func (c *Client) request(ctx context.Context, l call, body io.Reader) (*http.Request, error) {
	escaped := make([]string, len(l.path))
	for i, p := range l.path {
		escaped[i] = url.PathEscape(p)
	}
	where := strings.TrimSuffix(c.URL, "/") + Prefix + strings.Join(escaped, "/")
	if len(l.query) > 0 {
		where += "?" + l.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, l.method, where, body)
	if err != nil {
		return nil, &Error{Kind: KindInvalid, Message: fmt.Sprintf("server %q: %v", c.URL, err), Next: "A server is named by its URL, as in http://127.0.0.1:8079.", err: err}
	}
	req.Header.Set("Authorization", "Bearer "+c.Token)
	if c.By != "" {
		req.Header.Set(byHeader, c.By)
	}
	return req, nil
}

// exchange sends a request and turns a bad answer into an *Error.
func (c *Client) exchange(req *http.Request) (*http.Response, error) {
	h := c.HTTP
	if h == nil {
		h = http.DefaultClient
	}
	resp, err := h.Do(req)
	if err != nil {
		return nil, c.unreachable(req.Context(), err)
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	data, _ := io.ReadAll(io.LimitReader(resp.Body, bodyMax))
	var w wireError
	if json.Unmarshal(data, &w) != nil || w.Error.Kind == "" {
		return nil, c.strange(fmt.Errorf("status %s", resp.Status))
	}
	e := &Error{Kind: w.Error.Kind, Message: w.Error.Message, Next: w.Error.Next}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		e.Retry = time.Duration(s) * time.Second
	}
	return nil, e
}

// unreachable is the error of an exchange that failed on its way. When ctx has
// ended that is why, and its error is returned as it is.
func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	// url.Error repeats method and address before its cause.
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return &Error{
		Kind: KindUnreachable, err: err,
		Message: fmt.Sprintf("no answer from the server at %s: %v", c.URL, err),
		Next:    "Is it running? Start it with holdfast serve, or name another with --server.",
	}
}

// strange is the error of an answer that no Holdfast gives.
func (c *Client) strange(err error) error {
	return &Error{
		Kind: KindInternal, err: err,
		Message: fmt.Sprintf("%s does not answer like a Holdfast server: %v", c.URL, err),
		Next:    "Check the URL, and that both ends are of versions that fit together.",
	}
}
