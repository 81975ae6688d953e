package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// The direct way: a request without a body is written to a kept connection,
// and its answer read from it, by the handler's own goroutine. It is for what
// most requests are. Everything with a body, or with something in its head that
// takes thought, goes by httputil.ReverseProxy (proxy.go).

// direct tells whether a request may go that way. All methods let in are safe:
// they may be sent again on another connection when a kept one turns out to
// have been closed.
func direct(req *http.Request) bool {
	switch req.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
	default:
		return false
	}
	if req.ContentLength != 0 || req.Header["Expect"] != nil || !plainHost(req.Host) || !plainTarget(req.RequestURI) {
		return false
	}
	for _, line := range req.Header["Connection"] {
		// Other names are headers to be taken out.
		if !strings.EqualFold(line, "keep-alive") && !strings.EqualFold(line, "close") {
			return false
		}
	}
	return true
}

// plainHost: a name or an address that is sent on as it is.
func plainHost(host string) bool {
	for i := range len(host) {
		switch c := host[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '-', c == '.', c == ':', c == '_', c == '[', c == ']':
		default:
			return false
		}
	}
	return host != ""
}

// plainTarget: see requestTarget for what is not.
func plainTarget(uri string) bool {
	if uri == "" || uri[0] != '/' || len(uri) > 1 && uri[1] == '/' {
		return false
	}
	for i := range len(uri) {
		if c := uri[i]; c <= ' ' || c == 0x7f {
			return false
		}
	}
	return true
}

// carry does the whole of a direct request.
func (x *exchange) carry() {
	var (
		l   *line
		res *http.Response
	)
	// A line is its instance's again once the answer was read to its end; one
	// that still is ours here carries half an answer.
	defer func() {
		if l != nil {
			l.close()
		}
	}()
	err := x.attempt(x.req.Context(), func(m member) (err error) {
		l, res, err = x.ask(m)
		return err
	})
	if err != nil {
		x.failed(x.req.Context(), err)
		return
	}
	again := !res.Close
	dropHops(res.Header)
	none := res.Body == http.NoBody
	if err := x.answer(res); err != nil {
		x.failed(x.req.Context(), err)
		return
	}
	ended := func() {
		if again {
			l.keep()
		} else {
			l.close()
		}
		l = nil
	}

	h := x.w.Header()
	for name, values := range res.Header {
		h[name] = values
	}
	announced := len(res.Trailer)
	if announced > 0 {
		names := make([]string, 0, announced)
		for name := range res.Trailer {
			names = append(names, name)
		}
		h["Trailer"] = []string{strings.Join(names, ", ")}
	}
	if none {
		ended()
		x.w.WriteHeader(res.StatusCode)
		return
	}
	x.w.WriteHeader(res.StatusCode)

	buf := x.r.buffers.Get()
	defer x.r.buffers.Put(buf)
	for {
		n, err := res.Body.Read(buf) // sends what was written before it waits: line.Read
		if err == io.EOF {
			ended()
		}
		if n > 0 {
			if _, err := x.w.Write(buf[:n]); err != nil {
				x.err, x.why = errLeft, ClientLeft
				panic(http.ErrAbortHandler)
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			panic(http.ErrAbortHandler) // answerBody noted why
		}
	}
	if len(res.Trailer) == 0 {
		return
	}
	x.w.flush() // or net/http would count the bytes of a short answer, and have no place for trailers
	prefix := ""
	if len(res.Trailer) != announced {
		prefix = http.TrailerPrefix
	}
	for name, values := range res.Trailer {
		h[prefix+name] = append(h[prefix+name], values...)
	}
}

// ask sends the request to an instance and reads the head of its answer. A kept
// line that turns out to be dead before the answer's first byte is made up for
// by a new one, once.
func (x *exchange) ask(m member) (*line, *http.Response, error) {
	ctx, until := x.req.Context(), x.start.Add(x.r.cfg.Response)
	l := m.load.idle.take(m.addr, until)
	for {
		kept := l != nil
		if !kept {
			var err error
			if l, err = x.open(m, until); err != nil {
				return nil, nil, err
			}
		}
		l.lend(x)
		res, err := x.over(l)
		if err == nil {
			return l, res, nil
		}
		retry := kept && !l.heard && ctx.Err() == nil && !errors.Is(err, errResponse)
		l.close()
		if !retry {
			return nil, nil, err
		}
		l = nil
	}
}

// open connects to an instance.
func (x *exchange) open(m member, until time.Time) (*line, error) {
	ctx, cancel := context.WithDeadlineCause(x.req.Context(), until, errResponse)
	defer cancel()
	conn, err := x.r.dial(ctx, "tcp", m.addr)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	return newLine(conn, m, until), nil
}

// over writes the request and reads the answer's head, passing on what comes
// before it.
func (x *exchange) over(l *line) (*http.Response, error) {
	head := heads.Get().(*[]byte)
	*head = x.appendHead((*head)[:0])
	_, err := l.write(*head)
	heads.Put(head)
	if err != nil {
		return nil, err
	}
	for {
		l.left = answerHeadMax
		res, err := http.ReadResponse(l.in, x.req)
		if err != nil {
			return nil, err
		}
		l.left = -1
		if res.StatusCode < 100 || res.StatusCode >= 200 || res.StatusCode == http.StatusSwitchingProtocols {
			return res, nil
		}
		h := x.w.Header()
		dropHops(res.Header)
		for name, values := range res.Header {
			h[name] = values
		}
		x.w.WriteHeader(res.StatusCode)
		clear(h)
	}
}

// heads holds buffers for the heads of requests: *[]byte.
var heads = sync.Pool{New: func() any { b := make([]byte, 0, 2<<10); return &b }}

// appendHead writes the request as the instance gets it; see outbound and
// dropHops, which do the same for a map.
func (x *exchange) appendHead(b []byte) []byte {
	b = append(b, x.req.Method...)
	b = append(b, ' ')
	b = append(b, x.req.RequestURI...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, x.req.Host...)
	b = append(b, "\r\n"...)
	b = x.appendFields(b)
	if hasToken(x.req.Header["Te"], "trailers") {
		b = appendField(b, "Te", "trailers")
	}
	return append(b, "\r\n"...)
}

// appendFields writes the headers that go on to the instance, and the
// platform's own.
func (x *exchange) appendFields(b []byte) []byte {
	h := x.req.Header
	for name, values := range h {
		switch name {
		case "Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
			"Te", "Trailer", "Transfer-Encoding", "Upgrade", "Content-Length", "Host", "Via":
			continue
		}
		if reserved(name) || namedHop(h["Connection"], name) ||
			name == traceParent && x.origin.parent != "" || name == traceState && x.origin.stateless {
			continue
		}
		for _, v := range values {
			// net/http let neither in; checked again, because here it would end a header.
			if strings.IndexByte(v, '\n') < 0 && strings.IndexByte(v, '\r') < 0 {
				b = appendField(b, name, v)
			}
		}
	}
	gone := h["Via"]
	if namedHop(h["Connection"], "Via") {
		gone = nil
	}
	x.origin.each(h[forwarded], gone, func(name, value string) { b = appendField(b, name, value) })
	return b
}

// namedHop tells whether Connection names a header, which does not travel then.
func namedHop(connection []string, name string) bool {
	return len(connection) > 0 && hasToken(connection, name)
}

func appendField(b []byte, name, value string) []byte {
	if rest, ok := strings.CutPrefix(name, "Sec-Websocket-"); ok {
		b = append(b, "Sec-WebSocket-"...) // as RFC 6455 spells them, for readers who compare bytes
		name = rest
	}
	b = append(b, name...)
	b = append(b, ": "...)
	b = append(b, value...)
	return append(b, "\r\n"...)
}

var errHeadLong = fmt.Errorf("head of the answer is over %d bytes", answerHeadMax)
