package e2e

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// abuseVariable makes this test binary a crowd of strangers instead: KIND PLAIN
// TLS DURATION.
const abuseVariable = "HOLDFAST_E2E_ABUSE"

// stranger is one of the crowd, with an address of its own.
type stranger struct {
	plain, tls string
	dialer     net.Dialer
	until      time.Time
	did        *atomic.Int64
}

// abuse is one round of what a stranger does, as fast as it goes. What the server
// thinks of it is all the same.
var abuse = map[string]func(s *stranger){
	"connections": func(s *stranger) {
		var held []net.Conn
		for s.goes() && len(held) < 100 {
			held = append(held, s.dial(s.plain))
		}
		closeConns(held)
	},
	"half-handshakes": func(s *stranger) {
		var held []net.Conn
		for s.goes() && len(held) < 20 {
			c := s.dial(s.tls)
			io.WriteString(c, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
			held = append(held, c)
		}
		closeConns(held)
	},
	"handshakes": func(s *stranger) {
		c := tls.Client(s.dial(s.tls), &tls.Config{InsecureSkipVerify: true, ServerName: "shop.localhost"})
		c.Handshake()
		c.Close()
	},
	"slow-headers": func(s *stranger) {
		c := s.say("GET / HTTP/1.1\r\nHost: shop.localhost\r\n")
		for s.goes() && s.write(c, "X-A: b\r\n") {
			time.Sleep(50 * time.Millisecond)
		}
		c.Close()
	},
	"slow-bodies": func(s *stranger) {
		c := s.say("POST /upload HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: 1000000\r\n\r\n")
		for s.goes() && s.write(c, "x") {
			time.Sleep(20 * time.Millisecond)
		}
		c.Close()
	},
	"slow-readers": func(s *stranger) {
		c := s.say("GET /download?bytes=50000000 HTTP/1.1\r\nHost: shop.localhost\r\n\r\n")
		for s.goes() {
			io.CopyN(io.Discard, c, 1)
			time.Sleep(50 * time.Millisecond)
		}
		c.Close()
	},
	"huge-headers": func(s *stranger) {
		c := s.say("GET / HTTP/1.1\r\nHost: shop.localhost\r\n")
		for s.goes() && s.write(c, "X-A: "+strings.Repeat("b", 8000)+"\r\n") {
		}
		c.Close()
	},
	"huge-bodies": func(s *stranger) {
		c := s.say("POST /upload HTTP/1.1\r\nHost: shop.localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
		for s.goes() && s.write(c, "10000\r\n"+strings.Repeat("x", 0x10000)+"\r\n") {
		}
		c.Close()
	},
	"malformed": func(s *stranger) {
		all := []string{
			"GET / HTTP/1.1\nHost: shop.localhost\n\n", "GET / HTTP/1.1\r\nHost: shop.localhost\r\nHost: b\r\n\r\n", "\x00\x01\x02\x03\r\n\r\n", "G E T / HTTP/9.9\r\n\r\n",
			"POST / HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "GET / HTTP/1.1\r\nHost : shop.localhost\r\n\r\n",
		}
		c := s.say(all[rand.IntN(len(all))])
		io.Copy(io.Discard, io.LimitReader(c, 1000))
		c.Close()
	},
	"requests": func(s *stranger) {
		c := s.dial(s.plain)
		in := bufio.NewReader(c)
		for s.goes() && s.write(c, "GET / HTTP/1.1\r\nHost: shop.localhost\r\n\r\n") && skipAnswer(in) {
		}
		c.Close()
	},
	"churn": func(s *stranger) {
		c := s.say("GET / HTTP/1.1\r\nHost: shop.localhost\r\nConnection: close\r\n\r\n")
		io.Copy(io.Discard, c)
		c.Close()
	},
	"sockets": func(s *stranger) {
		var held []net.Conn
		for s.goes() && len(held) < 50 {
			c := s.say(upgrade)
			skipAnswer(bufio.NewReader(c))
			held = append(held, c)
		}
		closeConns(held)
	},
	"pings": func(s *stranger) { s.frames(strings.Repeat("\x89\x80\x00\x00\x00\x00", 500)) },
	"bad-frames": func(s *stranger) {
		all := []string{"\xf1\x80\x00\x00\x00\x00", "\x81\x05hello", "\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00", "\x80\x80\x00\x00\x00\x00", "\x89\xfe\x10\x00\x00\x00\x00\x00"}
		s.frames(all[rand.IntN(len(all))])
	},
	"deaf-sockets": func(s *stranger) { s.frames("\x82\xfe\x80\x00\x00\x00\x00\x00" + strings.Repeat("x", 0x8000)) }, // echoes that nobody reads
	"long-polls": func(s *stranger) {
		var held []net.Conn
		for s.goes() && len(held) < 50 {
			held = append(held, s.say("GET /poll HTTP/1.1\r\nHost: shop.localhost\r\n\r\n"))
		}
		closeConns(held)
	},
	"proxy-lies": func(s *stranger) {
		c := s.say("PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nGET / HTTP/1.1\r\nHost: shop.localhost\r\nX-Forwarded-For: 10.9.9.9\r\n\r\n")
		io.Copy(io.Discard, io.LimitReader(c, 1000))
		c.Close()
	},
	"admin-guesses": func(s *stranger) {
		c := s.say("GET /holdfast/v1/status HTTP/1.1\r\nHost: 127.0.0.1:8079\r\nAuthorization: Bearer guess\r\nConnection: close\r\n\r\n")
		io.Copy(io.Discard, c)
		c.Close()
	},
	"http2-resets": func(s *stranger) {
		s.http2(func(f *http2.Framer, head []byte) error {
			for id := uint32(1); s.goes(); id += 2 {
				if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: head, EndHeaders: true, EndStream: true}); err != nil {
					return err
				}
				if err := f.WriteRSTStream(id, http2.ErrCodeCancel); err != nil {
					return err
				}
				s.did.Add(1)
			}
			return nil
		})
	},
	"http2-continuations": func(s *stranger) {
		s.http2(func(f *http2.Framer, head []byte) error {
			err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head})
			for junk := bytes.Repeat([]byte{0x40, 1, 'a', 1, 'b'}, 1000); err == nil && s.goes(); {
				err = f.WriteContinuation(1, false, junk)
				s.did.Add(1)
			}
			return err
		})
	},
	"http2-settings": func(s *stranger) {
		s.http2(func(f *http2.Framer, _ []byte) (err error) {
			for err == nil && s.goes() {
				err = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 65535})
				s.did.Add(1)
			}
			return err
		})
	},
	"http2-pings": func(s *stranger) {
		s.http2(func(f *http2.Framer, _ []byte) (err error) {
			for err == nil && s.goes() {
				err = f.WritePing(false, [8]byte{1})
				s.did.Add(1)
			}
			return err
		})
	},
	"http2-streams": func(s *stranger) {
		s.http2(func(f *http2.Framer, head []byte) (err error) {
			for id := uint32(1); err == nil && s.goes(); id += 2 {
				err = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: head, EndHeaders: true})
				s.did.Add(1)
			}
			return err
		})
	},
	"http2-no-window": func(s *stranger) {
		s.http2(func(f *http2.Framer, head []byte) (err error) {
			err = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			for id := uint32(1); err == nil && id < 400 && s.goes(); id += 2 {
				err = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: head, EndHeaders: true, EndStream: true})
				s.did.Add(1)
			}
			for err == nil && s.goes() {
				time.Sleep(20 * time.Millisecond)
			}
			return err
		})
	},
}

const upgrade = "GET /ws HTTP/1.1\r\nHost: shop.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

func abuseKinds() []string { return slices.Sorted(maps.Keys(abuse)) }

// beAbusers is the whole of such a process: everybody from an address of his own.
func beAbusers(what string) error {
	var kind, plain, secure, long string
	if _, err := fmt.Sscan(what, &kind, &plain, &secure, &long); err != nil {
		return err
	}
	d, err := time.ParseDuration(long)
	if err != nil || abuse[kind] == nil {
		return fmt.Errorf("%q is no abuse: %v", what, err)
	}
	var did atomic.Int64
	var all sync.WaitGroup
	until := time.Now().Add(d)
	for n := range abusers {
		all.Go(func() {
			s := &stranger{plain: plain, tls: secure, until: until, did: &did}
			s.dialer = net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 2, byte(1+n))}, Timeout: time.Second}
			for s.goes() {
				abuse[kind](s)
				did.Add(1)
			}
		})
	}
	all.Wait()
	fmt.Fprintf(os.Stdout, "%d times", did.Load())
	return nil
}

func (s *stranger) goes() bool { return time.Now().Before(s.until) }

// dial connects, bounded by the end of all; a connection that is refused is one
// that says nothing.
func (s *stranger) dial(addr string) net.Conn {
	c, err := s.dialer.Dial("tcp", addr)
	if err != nil {
		time.Sleep(5 * time.Millisecond)
		a, b := net.Pipe()
		b.Close()
		return a
	}
	c.SetDeadline(s.until)
	return c
}

func (s *stranger) say(text string) net.Conn {
	c := s.dial(s.plain)
	io.WriteString(c, text)
	return c
}

func (s *stranger) write(c net.Conn, text string) bool {
	_, err := io.WriteString(c, text)
	s.did.Add(1)
	return err == nil
}

// frames opens a socket and sends the same over and over.
func (s *stranger) frames(text string) {
	c := s.say(upgrade)
	defer c.Close()
	if skipAnswer(bufio.NewReader(c)) {
		for s.goes() && s.write(c, text) {
		}
	}
}

// http2 speaks it over TLS; answers are thrown away.
func (s *stranger) http2(speak func(f *http2.Framer, head []byte) error) {
	c := tls.Client(s.dial(s.tls), &tls.Config{InsecureSkipVerify: true, ServerName: "shop.localhost", NextProtos: []string{"h2"}})
	defer c.Close()
	if c.Handshake() != nil {
		return
	}
	go io.Copy(io.Discard, c) // ends with c
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		return
	}
	f := http2.NewFramer(c, nil)
	f.AllowIllegalWrites = true
	if f.WriteSettings() != nil {
		return
	}
	var head bytes.Buffer
	enc := hpack.NewEncoder(&head)
	enc.SetMaxDynamicTableSize(0)
	for _, h := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "shop.localhost"}, {":path", "/download?bytes=1000000"}} {
		enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	speak(f, head.Bytes())
}

// skipAnswer reads an answer with its body; false at the end.
func skipAnswer(in *bufio.Reader) bool {
	length := 0
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return false
		}
		fmt.Sscanf(strings.ToLower(line), "content-length: %d", &length)
		if line == "\r\n" {
			_, err := in.Discard(length)
			return err == nil
		}
	}
}

func closeConns(all []net.Conn) {
	for _, c := range all {
		c.Close()
	}
}
