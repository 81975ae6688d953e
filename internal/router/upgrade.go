package router

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/tunnel"
)

// The handshake is carried by hand, because afterwards the two connections
// themselves are wanted, without a goroutine or a buffer around them.

const (
	// handshakeMax is how long an instance has to answer a handshake. Longer
	// than any login an app does on the way; short beside an hour, which a
	// plain answer may take.
	handshakeMax = time.Minute

	// helloMax is how long a client has to take the 101 we write.
	helloMax = 10 * time.Second

	// interimMax is how many 1xx answers may come before the real one.
	interimMax = 5

	socketVersion = "13"                                   // RFC 6455, 4.1
	socketGUID    = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" // RFC 6455, 1.3
)

// handshake tells what kind of request it is: 0 for a plain one, 101 for a
// WebSocket's opening handshake, else the status it is refused with and why.
//
// RFC 6455, 4.2.1, has a server stop at a malformed handshake with a status
// such as 400; an app might not, and would then speak WebSocket to a client
// that we cannot follow. An Upgrade in HTTP/1.0 must be ignored (RFC 9110,
// 7.8), and one that Connection does not name was not meant for us.
func handshake(req *http.Request) (status int, problem string) {
	h := req.Header
	if req.ProtoMajor != 1 || req.ProtoMinor < 1 || !hasToken(h["Upgrade"], "websocket") || !hasToken(h["Connection"], "upgrade") {
		return 0, ""
	}
	switch {
	case req.Method != http.MethodGet:
		return http.StatusBadRequest, "A WebSocket is opened with GET."
	case req.ContentLength != 0:
		return http.StatusBadRequest, "A WebSocket's opening handshake has no body."
	case len(h["Sec-Websocket-Version"]) != 1 || strings.Trim(h["Sec-Websocket-Version"][0], " \t") != socketVersion:
		return http.StatusUpgradeRequired, "WebSocket version 13 is spoken here."
	case len(h["Sec-Websocket-Key"]) != 1 || !validKey(h["Sec-Websocket-Key"][0]):
		return http.StatusBadRequest, "The handshake's Sec-WebSocket-Key is missing or malformed."
	}
	return http.StatusSwitchingProtocols, ""
}

// validKey: base64 of 16 bytes (RFC 6455, 4.2.1).
func validKey(key string) bool {
	b, err := base64.StdEncoding.DecodeString(key)
	return err == nil && len(b) == 16
}

// acceptKey is what proves that the instance understood (RFC 6455, 4.2.2).
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + socketGUID))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// upgrade carries a WebSocket's handshake, and hands both connections over to
// the tunnels when the instance agrees. A refusal by the app is passed on as it is.
func (x *exchange) upgrade() {
	x.socket = true
	ctx, cancel := x.patience()
	defer cancel()

	if !x.enter() {
		x.failed(ctx, errFull)
		return
	}
	var conn net.Conn
	err := x.attempt(ctx, func(m member) (err error) {
		if err := x.mayOpen(); err != nil {
			return err
		}
		conn, err = x.r.dial(ctx, "tcp", m.addr)
		return err
	})
	if err != nil {
		x.failed(ctx, err)
		return
	}
	head := heads.Get().(*[]byte)
	*head = x.appendHandshake((*head)[:0])
	conn.SetWriteDeadline(x.start.Add(handshakeMax))
	_, err = conn.Write(*head)
	heads.Put(head)
	if err != nil {
		conn.Close()
		x.failed(ctx, fmt.Errorf("handshake: %w", err))
		return
	}
	x.answered(ctx, conn, nil)
}

// patience is the time that an instance has for a handshake.
func (x *exchange) patience() (context.Context, context.CancelFunc) {
	return context.WithDeadlineCause(x.req.Context(), x.start.Add(handshakeMax), errResponse)
}

// enter counts the socket to be in the router.
func (x *exchange) enter() bool {
	x.inside = x.r.enter()
	return x.inside
}

// answered waits for the instance's answer to a handshake, of which early was
// read already, and does what it says. It owns conn.
func (x *exchange) answered(ctx context.Context, conn net.Conn, early []byte) {
	owned := true
	defer func() {
		if owned {
			conn.Close()
		}
	}()
	// The client's leaving, or the end of handshakeMax, ends every read and
	// write at once.
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(past) })
	defer stop()

	limit := &headLimit{r: tunnel.Unread(conn, early), left: answerHeadMax}
	in := bufio.NewReader(limit)
	res, err := x.readAnswer(in)
	if err != nil {
		x.failed(ctx, fmt.Errorf("handshake: %w", err))
		return
	}
	limit.left = -1
	if res.StatusCode != http.StatusSwitchingProtocols {
		if stop() {
			x.decline(conn, res)
		} else {
			x.failed(ctx, ctx.Err())
		}
		return
	}
	if err := x.checkSwitch(res.Header); err != nil {
		x.failed(ctx, err)
		return
	}
	if !stop() {
		x.failed(ctx, ctx.Err())
		return
	}
	owned = false
	x.join(conn, in, res.Header)
}

// appendHandshake writes the request as the instance gets it: the client's
// headers, the platform's own, and the upgrade to websocket alone.
func (x *exchange) appendHandshake(b []byte) []byte {
	b = append(b, "GET "...)
	if plainTarget(x.req.RequestURI) {
		b = append(b, x.req.RequestURI...)
	} else {
		b = append(b, requestTarget(x.req).RequestURI()...)
	}
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, x.req.Host...)
	b = append(b, "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"...)
	return append(x.appendFields(b), "\r\n"...)
}

// readAnswer reads the head of an instance's answer, skipping interim ones.
func (x *exchange) readAnswer(in *bufio.Reader) (*http.Response, error) {
	for range interimMax {
		res, err := http.ReadResponse(in, x.req)
		if err != nil {
			return nil, err
		}
		switch {
		case res.StatusCode == http.StatusSwitchingProtocols, res.StatusCode >= 200:
			return res, nil
		case res.StatusCode < 100:
			return nil, fmt.Errorf("instance answered with status %d", res.StatusCode)
		}
	}
	return nil, fmt.Errorf("instance sent more than %d interim answers", interimMax)
}

// checkSwitch tells a WebSocket's 101 from a fake one, which would open a
// tunnel for something else.
func (x *exchange) checkSwitch(h http.Header) error {
	switch {
	case !hasToken(h["Connection"], "upgrade") || !hasToken(h["Upgrade"], "websocket"):
		return errors.New("instance's 101 is not for a WebSocket")
	case len(h["Sec-Websocket-Accept"]) != 1 ||
		h["Sec-Websocket-Accept"][0] != acceptKey(x.req.Header["Sec-Websocket-Key"][0]):
		return errors.New("instance's 101 has a wrong Sec-WebSocket-Accept")
	}
	return checkAnswer(h)
}

// decline passes on an answer that opened no socket.
func (x *exchange) decline(conn net.Conn, res *http.Response) {
	ctx, cancel := context.WithDeadlineCause(x.req.Context(), x.start.Add(x.r.cfg.Response), errResponse)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	wanted := res.Header["Upgrade"]
	dropHops(res.Header)
	if res.StatusCode == http.StatusUpgradeRequired && wanted != nil && x.stream == nil {
		res.Header["Upgrade"] = wanted // that status must say to what (RFC 9110, 15.5.22)
	}
	if err := x.answer(res); err != nil {
		x.failed(ctx, err)
		return
	}
	h := x.w.Header()
	for name, values := range res.Header {
		h[name] = append(h[name], values...)
	}
	x.w.WriteHeader(res.StatusCode)
	out := http.NewResponseController(x.w)
	out.Flush()

	buf := x.r.buffers.Get()
	defer x.r.buffers.Put(buf)
	for {
		n, err := res.Body.Read(buf)
		if n > 0 {
			if _, err := x.w.Write(buf[:n]); err != nil {
				x.err, x.why = errLeft, ClientLeft
				panic(http.ErrAbortHandler)
			}
			out.Flush()
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			panic(http.ErrAbortHandler) // answerBody noted why
		}
	}
	for name, values := range res.Trailer {
		h[http.TrailerPrefix+name] = values
	}
}

// join takes the client's connection away from net/http, and begins the
// socket's life. It owns conn.
func (x *exchange) join(conn net.Conn, in *bufio.Reader, h http.Header) {
	conn = tunnel.Unread(conn, ahead(in))
	if x.stream != nil {
		x.joinStream(conn, h)
		return
	}
	hello := x.appendHello(nil, h)
	client, buffered, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		conn.Close()
		x.failed(x.req.Context(), fmt.Errorf("hijack: %w", err))
		return
	}
	unread := ahead(buffered.Reader)
	if through, ok := client.(lookedThrough); ok {
		var held []byte
		client, held = through.Release()
		unread = append(unread, held...)
	}
	if b, ok := client.(*begun); ok {
		client = b.TCPConn
	}
	client.SetDeadline(time.Now().Add(helloMax))
	x.greet(tunnel.Unread(client, unread), conn, hello, extended(h))
}

// lookedThrough is a connection that the edge looks through while it is HTTP.
type lookedThrough interface {
	// Release gives up the connection beneath and what was read from it behind
	// what net/http has buffered.
	Release() (conn net.Conn, unread []byte)
}

// appendHello writes the 101 as the client gets it: the instance's, with what
// the platform has to say. It changes h.
func (x *exchange) appendHello(b []byte, h http.Header) []byte {
	dropHops(h)
	x.platform(http.StatusSwitchingProtocols, h)
	b = append(b, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"...)
	for name, values := range h {
		for _, v := range values {
			b = appendField(b, name, v)
		}
	}
	return append(b, "\r\n"...)
}

// extended tells whether the two ends agreed on an extension.
func extended(h http.Header) bool { return len(h["Sec-Websocket-Extensions"]) > 0 }

// greet writes the 101 to the client and hands both connections over. It owns them.
func (x *exchange) greet(client, conn net.Conn, hello []byte, extended bool) {
	x.w.status = http.StatusSwitchingProtocols
	n, err := client.Write(hello)
	x.w.bytes += int64(n)
	if err != nil {
		x.err, x.why = fmt.Errorf("%w: %w", errLeft, err), ClientLeft
		client.Close()
		conn.Close()
		return
	}
	x.handOver(client, conn, extended)
}

// handOver gives both connections to the tunnels. It owns them. A life begins
// with that, which then counts the socket.
func (x *exchange) handOver(client, conn net.Conn, extended bool) {
	// From here the socket is counted until the tunnels say that it ended.
	life, policy := newLife(x), x.pool.sockets
	x.at, x.ticket, x.inside, x.counted = member{}, nil, false, nil
	opened := time.Now()
	err := x.r.tunnels.Join(tunnel.Socket{
		ID:       life.field(fieldID),
		Key:      life.key,
		Instance: life.instance,
		Client:   life.field(fieldClient),
		Affinity: x.pinned,
		Opened:   opened,
		MaxAge:   policy.MaxAge,
		Done:     life.done,

		PingInterval:         policy.PingInterval,
		MaxMessageBytes:      policy.MaxMessageBytes,
		MaxMessagesPerSecond: policy.MaxMessagesPerSecond,
		StrictFrames:         policy.Strict,
		Extended:             extended,
	}, client, conn)
	if err != nil {
		x.err, x.why = err, app.ShuttingDown
		life.end(tunnel.Ending{
			By:       tunnel.ByHoldfast,
			Cause:    app.ShuttingDown,
			Code:     tunnel.CodeAbnormal,
			Duration: time.Since(opened),
		}, err)
	}
}

// headLimit bounds what may be read while left is not negative.
type headLimit struct {
	r    io.Reader
	left int
}

func (l *headLimit) Read(p []byte) (int, error) {
	if l.left < 0 {
		return l.r.Read(p)
	}
	if l.left == 0 {
		return 0, fmt.Errorf("head of the answer is over %d bytes", answerHeadMax)
	}
	n, err := l.r.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}

// ahead is what was read from a connection already, in a buffer that goes away.
func ahead(in *bufio.Reader) []byte {
	b, _ := in.Peek(in.Buffered())
	return bytes.Clone(b)
}
