package tunnel

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/app"
)

// identity is a server's.
var identity = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	about := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, about, about, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

func serverConfig() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{identity()}}
}

func clientConfig(version uint16) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version}
}

// shake has both ends of a connection agree; near stands on what loops can carry.
func shake(near, far net.Conn, server, client *tls.Config) (*tls.Conn, *tls.Conn, error) {
	n, f := tls.Server(TLSBase(near), server), tls.Client(far, client)
	agreed := make(chan error, 1)
	go func() { agreed <- n.Handshake() }() // ends with f's, or with the connection
	err := f.Handshake()
	if err != nil {
		far.Close()
	}
	return n, f, errors.Join(err, <-agreed)
}

// greet is a client's connection: near is ours.
func (w world) greet(t testing.TB) (near net.Conn, far wire) {
	t.Helper()
	n, f := tcpPair(t)
	return w.greetOver(t, n, f)
}

func (w world) greetOver(t testing.TB, near, far *net.TCPConn) (net.Conn, wire) {
	t.Helper()
	if w.tls == 0 {
		return near, plain(t, far)
	}
	n, f, err := shake(near, far, serverConfig(), clientConfig(w.tls))
	if err != nil {
		t.Fatal(err)
	}
	return n, wire{f, far, t}
}

// Wherever a stream of records is cut, they end where they end.
func TestRecordsOfAnyPieces(t *testing.T) {
	for seed := range uint64(200) {
		rng := mathrand.New(mathrand.NewPCG(seed, 5))
		var stream []byte
		ends := map[int]bool{0: true}
		for range rng.IntN(10) {
			n := []int{0, 1, 5, 300, 0xFFFF}[rng.IntN(5)]
			stream = append(stream, 23, 3, 3, byte(n>>8), byte(n))
			stream = append(stream, make([]byte, n)...)
			ends[len(stream)] = true
		}
		var r records
		for at := 0; at < len(stream); {
			n := r.advance(stream[at : at+min(len(stream)-at, 1+rng.IntN(400))])
			for k := range n - 1 {
				if ends[at+k+1] {
					t.Fatalf("seed %d: advance from %d went over the end of a record at %d", seed, at, at+k+1)
				}
			}
			if at += n; r.between() != ends[at] {
				t.Fatalf("seed %d: between() = %t at %d, want %t", seed, r.between(), at, ends[at])
			}
		}
	}
}

// What a TLS connection had read and opened before it was joined comes first,
// also where it stands within a record.
func TestTLSReadAhead(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, set world) {
		if set.tls == 0 {
			t.Skip("plain")
		}
		for _, cut := range []int{0, 1, 4, 5, 6, 100, 499} { // bytes of the second record that come with the first
			nearTCP, farTCP := tcpPair(t)
			slow := &batched{Conn: farTCP}
			near, far, err := shake(nearTCP, slow, serverConfig(), clientConfig(set.tls))
			if err != nil {
				t.Fatal(err)
			}
			m := []byte{}
			for k := range 3 {
				m = append(m, frame(true, opBinary, true, bytes.Repeat([]byte{byte(k)}, 470))...)
			}
			slow.hold()
			far.Write(m[:478])
			first := len(slow.held)
			far.Write(m[478:])
			all := slow.held
			slow.held = nil
			farTCP.Write(all[:first+cut])
			ahead := make([]byte, 3)
			near.SetReadDeadline(time.Now().Add(patience))
			if _, err := io.ReadFull(near, ahead); err != nil {
				t.Fatal(err)
			}
			nearI, i := tcpPair(t)
			r := joinConns(t, set.Set, Socket{}, near, wire{far, farTCP, t}, nearI, i, ahead)
			r.instance.want(m[:478])
			farTCP.Write(all[first+cut:])
			r.instance.want(m[478:])
			down := frame(true, opText, false, []byte("and back"))
			r.instance.write(down)
			r.client.want(down)
			r.client.reset()
			r.wantEnd(ByClient, app.Lost, CodeAbnormal, "")
		}
	})
}

// batched is a connection whose writes can be held back.
type batched struct {
	net.Conn
	held    []byte
	holding bool
}

func (b *batched) hold() { b.holding = true }

func (b *batched) Write(p []byte) (int, error) {
	if b.holding {
		b.held = append(b.held, p...)
		return len(p), nil
	}
	return b.Conn.Write(p)
}

// peer is a TLS 1.3 client after its handshake that does what tls.Conn offers
// no call for: it writes the records itself.
type peer struct {
	duplex
	t       testing.TB
	in, out *keys
}

// keys are those of one direction (RFC 8446, 7.2 and 7.3).
type keys struct {
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

func newKeys(secret []byte) *keys {
	block, _ := aes.NewCipher(expand(secret, "key", 16))
	aead, _ := cipher.NewGCM(block)
	return &keys{secret: secret, aead: aead, iv: expand(secret, "iv", 12)}
}

func (k *keys) next() *keys { return newKeys(expand(k.secret, "traffic upd", 32)) }

func (k *keys) nonce() []byte {
	n := slices.Clone(k.iv)
	binary.BigEndian.PutUint64(n[4:], binary.BigEndian.Uint64(n[4:])^k.seq)
	k.seq++
	return n
}

func expand(secret []byte, label string, n int) []byte {
	info := append([]byte{0, byte(n), byte(6 + len(label))}, "tls13 "+label+"\x00"...)
	out, err := hkdf.Expand(sha256.New, secret, string(info), n)
	if err != nil {
		panic(err)
	}
	return out
}

// Content types, and the alert and the handshake message that are sent.
const (
	typeAlert, typeHandshake, typeData = 21, 22, 23
	closeNotify                        = "\x01\x00"
	keyUpdate                          = "\x18\x00\x00\x01\x00" // not wanting the other's
	keyUpdateAsked                     = "\x18\x00\x00\x01\x01"
)

func (p *peer) record(kind byte, data string) []byte {
	head := []byte{typeData, 3, 3, 0, 0}
	binary.BigEndian.PutUint16(head[3:], uint16(len(data)+1+p.out.aead.Overhead()))
	return p.out.aead.Seal(head, p.out.nonce(), append([]byte(data), kind), head)
}

// put writes a record in two pieces.
func (p *peer) put(kind byte, data string) {
	p.t.Helper()
	r := p.record(kind, data)
	for _, piece := range [][]byte{r[:3], r[3:]} {
		if _, err := p.Write(piece); err != nil {
			p.t.Fatal(err)
		}
	}
}

// get reads a record.
func (p *peer) get(kind byte, data string) {
	p.t.Helper()
	head := make([]byte, 5)
	if _, err := io.ReadFull(p, head); err != nil {
		p.t.Fatalf("read a record: %v; want %q", err, data)
	}
	body := make([]byte, binary.BigEndian.Uint16(head[3:]))
	if _, err := io.ReadFull(p, body); err != nil {
		p.t.Fatal(err)
	}
	got, err := p.in.aead.Open(nil, p.in.nonce(), body, head)
	if err != nil || string(got) != data+string(kind) {
		p.t.Fatalf("got the record %.50q, %v; want %.50q", got, err, data+string(kind))
	}
}

// joinPeer joins a socket whose client is a peer.
func joinPeer(t *testing.T, set *Set, sock Socket, nearRaw net.Conn, farRaw duplex) (*peer, *realRig) {
	t.Helper()
	var log bytes.Buffer
	server, client := serverConfig(), clientConfig(tls.VersionTLS13)
	server.SessionTicketsDisabled = true // they would be the first records to open
	client.KeyLogWriter = &log
	near, far, err := shake(nearRaw, farRaw, server, client)
	if err != nil {
		t.Fatal(err)
	}
	if far.ConnectionState().CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
		t.Skip("this machine prefers another cipher suite")
	}
	p := &peer{duplex: farRaw, t: t}
	for line := range strings.Lines(log.String()) {
		var name, random, secret string
		fmt.Sscan(line, &name, &random, &secret)
		b, _ := hex.DecodeString(secret)
		switch name {
		case "CLIENT_TRAFFIC_SECRET_0":
			p.out = newKeys(b)
		case "SERVER_TRAFFIC_SECRET_0":
			p.in = newKeys(b)
		}
	}
	nearI, i := tcpPair(t)
	return p, joinConns(t, set, sock, near, wire{farRaw, farRaw, t}, nearI, i)
}

func TestTLSMessages(t *testing.T) {
	t.Parallel()
	up := func(s string) string { return string(frame(true, opText, true, []byte(s))) }
	down := func(s string) string { return string(frame(true, opText, false, []byte(s))) }
	onPeer := func(name string, test func(t *testing.T, p *peer, r *realRig)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onEach(t, func(t *testing.T, set world) {
				if set.tls != tls.VersionTLS13 {
					t.Skip("not TLS 1.3")
				}
				nearTCP, farTCP := tcpPair(t)
				p, r := joinPeer(t, set.Set, Socket{}, nearTCP, farTCP)
				test(t, p, r)
			})
		})
	}
	onPeer("new keys, and half-closes", func(t *testing.T, p *peer, r *realRig) {
		p.put(typeData, up("one"))
		r.instance.want([]byte(up("one")))
		for _, message := range []string{keyUpdate, keyUpdateAsked} {
			p.put(typeHandshake, message)
			p.out = p.out.next()
			p.put(typeData, up("two"))
			r.instance.want([]byte(up("two")))
		}
		p.get(typeHandshake, keyUpdate)
		p.in = p.in.next()
		r.instance.write([]byte(down("three")))
		p.get(typeData, down("three"))
		p.put(typeHandshake, keyUpdateAsked[:2]) // a message in two records
		p.put(typeHandshake, keyUpdateAsked[2:])
		p.out = p.out.next()
		p.get(typeHandshake, keyUpdate)
		p.in = p.in.next()
		p.put(typeData, "") // no data is no end
		r.instance.CloseWrite()
		p.get(typeAlert, closeNotify)
		p.put(typeData, up("four"))
		r.instance.want([]byte(up("four")))
		p.put(typeAlert, closeNotify)
		r.instance.wantEOF()
		r.instance.Close()
		r.wantEnd(ByInstance, app.Lost, CodeAbnormal, "")
	})
	onPeer("the client's half first", func(t *testing.T, p *peer, r *realRig) {
		p.put(typeData, up("one"))
		p.put(typeAlert, closeNotify)
		r.instance.want([]byte(up("one")))
		r.instance.wantEOF()
		r.instance.write([]byte(down("two")))
		r.instance.Close()
		p.get(typeData, down("two"))
		p.get(typeAlert, closeNotify)
		r.wantEnd(ByClient, app.Lost, CodeAbnormal, "")
	})
	onPeer("what nobody can open", func(t *testing.T, p *peer, r *realRig) {
		p.put(typeData, up("one"))
		bad := p.record(typeData, up("two"))
		bad[len(bad)-1] ^= 1
		p.Write(bad)
		r.instance.want([]byte(up("one")))
		r.instance.wantEOF()
		p.get(typeAlert, "\x02\x14") // bad_record_mac
		r.wantEnd(ByClient, app.Lost, CodeAbnormal, "")
	})
	onPeer("a record that is too long", func(t *testing.T, p *peer, r *realRig) {
		p.Write([]byte{typeData, 3, 3, 0xFF, 0xFF, 1, 2, 3})
		p.get(typeAlert, "\x02\x16") // record_overflow
		r.instance.wantEOF()
		r.wantEnd(ByClient, app.Lost, CodeAbnormal, "")
	})
	onPeer("the stream's end within a record", func(t *testing.T, p *peer, r *realRig) {
		p.Write(p.record(typeData, up("one"))[:20])
		p.CloseWrite()
		r.instance.wantEOF()
		r.wantEnd(ByClient, app.Lost, CodeAbnormal, "")
	})
}

// Messages of a mebibyte, both ways at once.
func TestLargeMessages(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, set world) {
		r := realJoin(t, set, Socket{})
		rng := mathrand.New(mathrand.NewPCG(1, 2))
		up, down := frame(true, opBinary, true, noise(rng, 1<<20)), frame(true, opBinary, false, noise(rng, 1<<20))
		for range 3 {
			var both sync.WaitGroup
			both.Go(func() { r.client.Write(up) })
			both.Go(func() { r.instance.Write(down) })
			both.Go(func() { readAll(t, r.instance, up) })
			readAll(t, r.client, down)
			both.Wait()
		}
		r.client.write(closing(true, 1000, ""))
		r.instance.want(closing(true, 1000, ""))
		r.instance.write(closing(false, 1000, ""))
		r.instance.Close()
		r.client.want(closing(false, 1000, ""))
		r.client.wantEOF()
		r.client.Close()
		if e := r.wantEnd(ByClient, app.Closed, 1000, ""); e.FromClient.Binary != 3 || e.FromInstance.Largest != 1<<20 {
			t.Errorf("Traffic = %+v, %+v", e.FromClient, e.FromInstance)
		}
	})
}

func readAll(t *testing.T, r io.Reader, want []byte) {
	b := make([]byte, len(want))
	if n, err := io.ReadFull(r, b); err != nil || !bytes.Equal(b, want) {
		t.Errorf("%d bytes came, %v; want %d that are the same", n, err, len(want))
	}
}
