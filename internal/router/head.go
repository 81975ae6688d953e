package router

import (
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
)

// The heads of the straight way are read here, and only those that can be read
// in one way: what is odd, allowed or not, is left to net/http. A fuzzer compares
// the two.

// readRequest reads a whole request that has no body. It is nil for what it
// leaves to net/http's server; see there, readRequest and serve, for what that
// checks besides http.ReadRequest.
func readRequest(head string) *http.Request {
	line, fields, _ := strings.Cut(head, "\r\n")
	target, ok := strings.CutPrefix(line, "GET ")
	if !ok {
		return nil
	}
	if target, ok = strings.CutSuffix(target, " HTTP/1.1"); !ok || !plainTarget(target) {
		return nil
	}
	path, query, _ := strings.Cut(target, "?")
	if strings.IndexByte(path, '%') >= 0 {
		var err error
		if path, err = url.PathUnescape(path); err != nil {
			return nil
		}
	}
	h := readFields(fields)
	if h == nil || len(h["Host"]) != 1 || h["Host"][0] == "" || h["Expect"] != nil {
		return nil
	}
	req := &http.Request{
		Method: http.MethodGet, RequestURI: target, URL: &url.URL{Path: path, RawQuery: query},
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: h, Host: h["Host"][0], Body: http.NoBody,
	}
	delete(h, "Host")
	return req
}

// readFields reads header lines up to the empty one, which must be the end. It
// is nil for what it leaves to net/http: lines that are folded or end in "\n"
// alone, anything but ASCII, and headers that say how long a message is.
func readFields(lines string) http.Header {
	most := strings.Count(lines, "\n")
	h, room := make(http.Header, most), make([]string, most)
	for {
		line, rest, ok := strings.Cut(lines, "\r\n")
		if !ok {
			return nil
		}
		if lines = rest; line == "" {
			break
		}
		colon := strings.IndexByte(line, ':')
		if colon <= 0 {
			return nil
		}
		name, value := line[:colon], line[colon+1:]
		for i := range len(name) {
			if !tokenBytes[name[i]] {
				return nil
			}
		}
		for i := range len(value) {
			if c := value[i]; c < ' ' && c != '\t' || c >= 0x7f {
				return nil
			}
		}
		name, value = canonicalName(name), strings.Trim(value, " \t")
		if had := h[name]; had != nil {
			h[name] = append(had, value)
			continue
		}
		room[0] = value
		h[name], room = room[:1:1], room[1:]
	}
	switch {
	case lines != "", h["Content-Length"] != nil, h["Transfer-Encoding"] != nil:
		return nil
	case h["Pragma"] != nil && h["Cache-Control"] == nil: // which net/http adds
		return nil
	}
	return h
}

// tokenBytes are what a header's name is made of (RFC 9110, 5.6.2).
var tokenBytes = func() (t [256]bool) {
	for _, c := range "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" {
		t[c] = true
	}
	return t
}()

// canonicalName is textproto.CanonicalMIMEHeaderKey, which does not know the
// names of handshakes and would make copies of them.
func canonicalName(name string) string {
	switch name {
	case "Host", "Upgrade", "Connection", "Origin", "Cookie", "User-Agent":
		return name
	case "Sec-WebSocket-Key":
		return "Sec-Websocket-Key"
	case "Sec-WebSocket-Version":
		return "Sec-Websocket-Version"
	case "Sec-WebSocket-Accept":
		return "Sec-Websocket-Accept"
	case "Sec-WebSocket-Protocol":
		return "Sec-Websocket-Protocol"
	case "Sec-WebSocket-Extensions":
		return "Sec-Websocket-Extensions"
	}
	return textproto.CanonicalMIMEHeaderKey(name)
}
