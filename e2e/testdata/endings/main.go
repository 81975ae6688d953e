// Endings is an app whose WebSockets end in whatever way they are asked to. It
// speaks just enough of RFC 6455 for that: what a client says is read and
// forgotten, but for its goodbye.
package main

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync/atomic"
)

func main() {
	var sick atomic.Bool
	http.HandleFunc("/live", func(w http.ResponseWriter, _ *http.Request) {
		if sick.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	http.HandleFunc("/sicken", func(http.ResponseWriter, *http.Request) { sick.Store(true) })
	http.HandleFunc("/crash", func(http.ResponseWriter, *http.Request) { os.Exit(3) })
	http.HandleFunc("/ws/", open)
	log.Fatal(http.ListenAndServe(":"+os.Getenv("PORT"), nil))
}

// open makes a WebSocket of any request below /ws/. Where the path ends in
// closes or breaks, that is what the app does at once.
func open(w http.ResponseWriter, r *http.Request) {
	conn, both, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	sum := sha1.Sum([]byte(r.Header.Get("Sec-Websocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]))
	switch r.URL.Path {
	case "/ws/instance-closes":
		conn.Write(append([]byte{0x88, 8, 4000 >> 8, 4000 & 0xff}, "enough"...))
	case "/ws/lost":
		wait(both.Reader) // for the client's word
		conn.(*net.TCPConn).SetLinger(0)
		return // and a reset
	}
	for {
		opcode, err := wait(both.Reader)
		if err != nil {
			return
		}
		if opcode == 8 {
			conn.Write([]byte{0x88, 0})
			return
		}
	}
}

// wait reads one frame, and forgets what it says.
func wait(r *bufio.Reader) (opcode byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, err
	}
	size := uint64(head[1] & 0x7f)
	switch size {
	case 126:
		var n uint16
		err = binary.Read(r, binary.BigEndian, &n)
		size = uint64(n)
	case 127:
		err = binary.Read(r, binary.BigEndian, &size)
	}
	if err != nil {
		return 0, err
	}
	_, err = io.CopyN(io.Discard, r, int64(size)+4)
	return head[0] & 0xf, err
}
