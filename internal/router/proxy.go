package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Plain HTTP without a body goes the direct way (direct.go). The rest is carried
// by httputil.ReverseProxy, which knows trailers, 1xx answers, hop-by-hop
// headers and flushing. Each exchange is a proxy's
// RoundTripper of its own, because that is where an instance is chosen, and
// chosen again when it refuses the connection.
//
// What is sent again, and why that is safe:
//
//   - A connection that was refused carried nothing: another instance is tried,
//     with any method and an untouched body.
//   - A kept-alive connection that the app closed while our request was on its
//     way may have carried it. http.Transport sends it again if the method is
//     safe (or the client gave an Idempotency-Key) or nothing was written, and
//     no byte of the body was asked for. A POST that was written is never sent
//     twice; it gets 502. idleConn makes that rare.

const (
	// idleConn is how long a connection to an instance is kept for another
	// request: less than the common servers keep it (gunicorn 2 s, Node and
	// uvicorn 5 s), so that we close first and a request does not meet a
	// closing connection.
	idleConn = 1500 * time.Millisecond

	// idleConnsMax is how many are kept per instance. More come and go with load.
	idleConnsMax = 256

	// continueWait is how long the body of a request with "Expect:
	// 100-continue" waits for the instance's word before it is sent anyway.
	continueWait = time.Second

	// answerHeadMax bounds the head of an answer, in bytes, as documented:
	// more is a 502.
	answerHeadMax = 64 << 10

	// copyBytes is the size of one buffer for copying a body.
	copyBytes = 32 << 10

	// lingerTime is how long a client may go on sending a body that nobody
	// reads any more, after it was answered. Cutting it off at once would
	// reset the connection, and the answer with it.
	lingerTime = 2 * time.Second
)

var (
	errBody     = errors.New("request body over the limit")
	errResponse = errors.New("response time over")
	errUnasked  = errors.New("instance switched protocols unasked")
)

func newTransport(dial func(ctx context.Context, network, addr string) (net.Conn, error)) *http.Transport {
	return &http.Transport{
		Proxy:                  nil, // an environment's proxy is not between us and our instances
		DialContext:            dial,
		DisableCompression:     true, // what the client accepts is between it and the app
		MaxIdleConns:           0,
		MaxIdleConnsPerHost:    idleConnsMax,
		IdleConnTimeout:        idleConn,
		ExpectContinueTimeout:  continueWait,
		MaxResponseHeaderBytes: answerHeadMax,
	}
}

var silent = log.New(io.Discard, "", 0)

// proxy carries a plain request and its answer.
func (x *exchange) proxy() {
	if direct(x.req) {
		x.carry()
		return
	}
	ctx, cancel := context.WithTimeoutCause(x.req.Context(), x.r.cfg.Response, errResponse)
	defer cancel()

	// Upgrades to anything but a WebSocket, such as h2c, are not offered to the
	// app; the request goes as the plain one that it also is (RFC 9110, 7.8).
	delete(x.req.Header, "Upgrade")

	req := x.req.WithContext(ctx)
	if req.ContentLength != 0 {
		dropTrailers(req.Trailer)
		x.body = &requestBody{src: req.Body, trailers: req.Trailer, watch: x.w.watch}
		req.Body = x.body
		if req.ProtoMajor == 1 {
			// Both directions at once, for apps that answer while they read.
			http.NewResponseController(x.w).EnableFullDuplex()
		}
	}
	proxy := httputil.ReverseProxy{
		Rewrite:        x.rewrite,
		Transport:      x,
		FlushInterval:  -1, // every piece goes out as it comes: events, long polls
		ErrorLog:       silent,
		BufferPool:     &x.r.buffers,
		ModifyResponse: x.answer,
		ErrorHandler:   func(_ http.ResponseWriter, _ *http.Request, err error) { x.failed(ctx, err) },
	}
	proxy.ServeHTTP(x.w, req)
}

// rewrite makes the request that an instance gets. The address comes later.
func (x *exchange) rewrite(p *httputil.ProxyRequest) {
	p.Out.Host = p.In.Host
	p.Out.URL = requestTarget(p.In)
	p.Out.Trailer = p.In.Trailer // filled while the body is read
	delete(p.Out.Header, "Connection")
	delete(p.Out.Header, "Upgrade")
	outbound(p.Out.Header, x.origin, p.In.Header[forwarded])
}

// requestTarget is the request-target, byte for byte as the client sent it where
// net/url lets us: parsed and printed again, "%7e" and "~" would be the same to
// us and not to the app.
func requestTarget(in *http.Request) *url.URL {
	u := &url.URL{Scheme: "http"}
	uri := in.RequestURI
	// HTTP/2 lets a space through, which would end the target in HTTP/1.
	spaces := strings.IndexByte(uri, ' ') >= 0
	if strings.HasPrefix(uri, "/") && !strings.HasPrefix(uri, "//") && !spaces {
		u.Opaque = uri
		return u
	}
	// "//" would be printed as an absolute address, and the absolute form is
	// for proxies: the client's host is in the Host header.
	u.Path, u.RawPath = in.URL.Path, in.URL.RawPath
	u.RawQuery, u.ForceQuery = in.URL.RawQuery, in.URL.ForceQuery
	if spaces {
		u.RawQuery = strings.ReplaceAll(u.RawQuery, " ", "%20")
	}
	return u
}

// RoundTrip sends a request to an instance, or to another if the first does
// not take the connection. It is for the exchange's own proxy.
func (x *exchange) RoundTrip(out *http.Request) (res *http.Response, err error) {
	err = x.attempt(out.Context(), func(m member) (err error) {
		if x.body != nil {
			if out.ContentLength > x.bodyMax() {
				return errBody
			}
			x.body.allow(x.bodyMax())
		}
		try, u := *out, *out.URL
		u.Host = m.addr
		try.URL = &u
		if out.Body != nil {
			// The Transport closes a body on errors, also on those after which
			// we try again.
			try.Body = &bodyOnce{ReadCloser: out.Body}
			try.GetBody = func() (io.ReadCloser, error) {
				if x.body.begun.Load() {
					return nil, errors.New("body is under way")
				}
				return &bodyOnce{ReadCloser: out.Body}, nil
			}
		}
		res, err = x.r.transport.RoundTrip(&try)
		return err
	})
	return res, err
}

// bodyMax is how many bytes a body may have, by the version's word or else ours.
func (x *exchange) bodyMax() int64 {
	if x.pool != nil && x.pool.bodyMax > 0 {
		return x.pool.bodyMax
	}
	return x.r.cfg.Body
}

// answer looks at an instance's answer before it goes to the client.
func (x *exchange) answer(res *http.Response) error {
	switch {
	case res.StatusCode == http.StatusSwitchingProtocols:
		return errUnasked
	case res.StatusCode < 200:
		return fmt.Errorf("instance answered with status %d", res.StatusCode)
	}
	if err := checkAnswer(res.Header); err != nil {
		return err
	}
	x.platform(res.StatusCode, res.Header)
	x.heard(res)
	if res.Header["Content-Type"] == nil {
		x.w.Header()["Content-Type"] = nil // or net/http would guess one
	}
	if res.Body == http.NoBody {
		x.release()
	}
	res.Body = &answerBody{res.Body, x}
	return nil
}

// failed answers for an instance that did not. ctx is the exchange's.
func (x *exchange) failed(ctx context.Context, err error) {
	var ours *refusal
	switch {
	case errors.As(err, &ours):
		if x.err = err; x.refused != nil {
			x.err = fmt.Errorf("%w (%w)", err, x.refused)
		}
		x.refuse(ours.cause, ours.status, ours.text)
	case x.body != nil && x.body.over.Load(), errors.Is(err, errBody):
		x.err = errBody
		x.refuse(BodyTooBig, http.StatusRequestEntityTooLarge, fmt.Sprintf("A request may carry %d bytes.", x.bodyMax()))
	case x.req.Context().Err() != nil:
		x.err, x.why = errLeft, ClientLeft
		panic(http.ErrAbortHandler)
	case x.body != nil && x.body.slow.Load():
		x.err = fmt.Errorf("request body: %w", err)
		x.refuse(BodyBroken, http.StatusRequestTimeout, "The body of the request did not go on.")
	case x.body != nil && x.body.broken.Load():
		x.err = fmt.Errorf("request body: %w", err)
		x.refuse(BodyBroken, http.StatusBadRequest, "The body of the request could not be read.")
	case ctx.Err() != nil, errors.Is(err, errResponse):
		x.err = errResponse
		x.fault()
		x.refuse(Slow, http.StatusGatewayTimeout, "The application did not answer in time.")
	default:
		x.err = err
		x.fault()
		x.refuse(BadAnswer, http.StatusBadGateway, "The application did not give a valid answer.")
	}
}

// fault counts a failure as the instance's.
func (x *exchange) fault() {
	if x.at.load != nil {
		x.at.load.errors.Add(1)
	}
}

// buffers is a httputil.BufferPool. Its zero value works.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[copyBytes]byte); ok {
		return p[:]
	}
	return make([]byte, copyBytes)
}

func (b *buffers) Put(p []byte) { b.pool.Put((*[copyBytes]byte)(p)) }

// answerBody notes why an answer ended early. When it ends well the instance is
// rid of the request, even while a slow client still takes the rest: counting
// it down here and not after the handler also means that a client that asks
// again at once finds even counters.
type answerBody struct {
	io.ReadCloser
	x *exchange
}

func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == io.EOF:
		b.x.release()
	case err != nil:
		b.x.cut(err)
	}
	return n, err
}

// cut notes why an answer was cut off after it had begun.
func (x *exchange) cut(err error) {
	switch {
	case x.body != nil && x.body.over.Load():
		x.err, x.why = errBody, BodyTooBig
	case x.req.Context().Err() != nil:
		x.err, x.why = errLeft, ClientLeft
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, errResponse), errors.Is(err, context.Canceled):
		x.err, x.why = errResponse, Slow
	default:
		x.err, x.why = fmt.Errorf("answer: %w", err), BadAnswer
		x.fault()
	}
}

// requestBody is the client's body: counted and bounded. The Transport reads it
// in a goroutine of its own, hence the atomics.
type requestBody struct {
	src      io.ReadCloser
	trailers http.Header // where net/http puts those that come
	watch    *watch
	left     int64 // owned by whoever reads

	read   atomic.Int64
	begun  atomic.Bool // somebody asked for a byte
	done   atomic.Bool // all was read
	over   atomic.Bool // there was more than is allowed
	broken atomic.Bool // it could not be read
	slow   atomic.Bool // because nothing came
}

// allow says how many bytes it may have, before anybody reads.
func (b *requestBody) allow(n int64) {
	if !b.begun.Load() {
		b.left = n
	}
}

func (b *requestBody) Read(p []byte) (int, error) {
	b.begun.Store(true)
	// One byte more than is allowed, to know whether there is more.
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	end := b.watch.reads()
	n, err := b.src.Read(p)
	end()
	b.read.Add(int64(n))
	if int64(n) > b.left {
		b.over.Store(true)
		return int(b.left), errBody
	}
	b.left -= int64(n)
	switch {
	case err == io.EOF:
		dropTrailers(b.trailers)
		b.done.Store(true)
	case err != nil:
		b.slow.Store(errors.Is(err, os.ErrDeadlineExceeded))
		b.broken.Store(true)
	}
	return n, err
}

func (b *requestBody) Close() error { return nil } // net/http closes src after the handler

// bodyOnce is the body as one attempt sees it: closing it ends the attempt's
// reading and leaves the body to the next.
type bodyOnce struct {
	io.ReadCloser
	closed atomic.Bool
}

func (b *bodyOnce) Read(p []byte) (int, error) {
	if b.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	return b.ReadCloser.Read(p)
}

func (b *bodyOnce) Close() error {
	b.closed.Store(true)
	return nil
}

// linger bounds how long net/http reads what is left of a body after the
// handler. It also frees a read that is under way when the app answered
// without waiting for the rest.
func (x *exchange) linger() {
	if x.req.ContentLength != 0 && (x.body == nil || !x.body.done.Load()) {
		http.NewResponseController(x.w).SetReadDeadline(time.Now().Add(lingerTime))
	}
}
