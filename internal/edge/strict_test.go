package edge

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

// What passes the scanner, net/http reads as the scanner did: as many requests,
// whole. And where the stream is cut changes nothing of what is taken.
func FuzzStrict(f *testing.F) {
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /a?b HTTP/1.1\r\nHost: a:80\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\n\r\n5;a=\"b\"\r\nhello\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nrest",
		"GET / HTTP/1.1\nHost: a\n\n", "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n",
	} {
		f.Add([]byte(s), uint8(3))
	}
	f.Fuzz(func(t *testing.T, p []byte, cut uint8) {
		if len(p) > 8<<10 {
			return
		}
		var whole, pieces scanner
		passed := whole.scan(p)
		step, at := int(cut)%64+1, 0
		for at < len(p) {
			end := min(at+step, len(p))
			n := pieces.scan(p[at:end])
			if at += n; at < end {
				break
			}
		}
		// Of a line that is refused more or less of its beginning passes, and it may be
		// too long or malformed first.
		if pieces.at != whole.at || at != passed && whole.at != inLost {
			t.Fatalf("%q: %d bytes pass and then %d (%s); %d bytes at a time %d and then %d (%s)", p, passed, whole.at, whole.fault, step, at, pieces.at, pieces.fault)
		}
		complete := whole.at == inAsked || whole.at == inStart && len(whole.line) == 0
		// net/http's reading of what passed, one request after the other.
		in := bufio.NewReader(bytes.NewReader(p[:passed]))
		for {
			if _, err := in.Peek(1); err == io.EOF {
				break
			}
			req, err := http.ReadRequest(in)
			if err != nil {
				if complete {
					t.Fatalf("%q passes, and net/http says %v", p[:passed], err)
				}
				return // the end is in a head that is not whole
			}
			if strings.Contains(req.Host, "/") || len(req.TransferEncoding) > 1 {
				t.Fatalf("%q passes, and net/http reads %+v", p[:passed], req)
			}
			if whole.at == inAsked && req.Header["Upgrade"] != nil && in.Buffered() == 0 {
				return
			}
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				if complete {
					t.Fatalf("%q passes, and of its body net/http says %v", p[:passed], err)
				}
				return
			}
		}
	})
}
