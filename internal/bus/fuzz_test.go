package bus

import (
	"errors"
	"io"
	"net"
	"testing"
)

// Whatever a connection sends, what it gets is well-formed, and nothing is left
// of it when it has gone.
func FuzzCommands(f *testing.F) {
	for _, s := range []string{
		"SUBSCRIBE a b a\r\nPING\r\nUNSUBSCRIBE\r\nHELLO 3\r\nPSUBSCRIBE * [a\r\nPUBLISH a x\r\nPUBLISH b \"\\r\\n\"\r\nRESET\r\nPING\r\n",
		"HELLO 3 SETNAME me\r\nSSUBSCRIBE s\r\nSPUBLISH s x\r\nPUBSUB CHANNELS\r\nPUBSUB SHARDNUMSUB s t\r\nCLIENT INFO\r\nCLIENT SETINFO a b\r\nQUIT\r\n",
		"SELECT 1\r\nINFO\r\nECHO \"-ERR\\r\\n\"\r\n\"x\\r\\n+OK\"\r\nCLIENT \"\\n\"\r\nPUBSUB HELP\r\nAUTH a b\r\nHELLO 2 \"\\n\"\r\n",
		"*3\r\n$7\r\nPUBLISH\r\n$1\r\na\r\n$3\r\n\r\n\x00\r\n*1\r\n$-1\r\n",
	} {
		f.Add([]byte(s))
	}
	w := newWorld(f)
	hello := wire("AUTH", "shop", w.bus.Password("shop"))
	f.Fuzz(func(t *testing.T, input []byte) {
		c := dial(t, w.addr.String())
		defer c.net.Close()
		sent := make(chan struct{})
		go func() { // ends at the latest with the connection
			defer close(sent)
			c.net.Write(append(hello[:len(hello):len(hello)], input...))
			c.net.(*net.TCPConn).CloseWrite()
		}()
		c.gets("+OK")
		for {
			_, err := readReply(c.r)
			var op *net.OpError
			if errors.Is(err, io.EOF) || errors.As(err, &op) && !op.Timeout() {
				break // reset: it was ended with input unread
			}
			if err != nil {
				t.Fatalf("%q: %v", input, err)
			}
		}
		<-sent
		w := &world{t: t, bus: w.bus, addr: w.addr}
		s := w.join("shop") // of the same space, and later
		s.want(":0", "PUBSUB", "NUMPAT")
		s.want("*[]", "PUBSUB", "CHANNELS")
		s.want("*[]", "PUBSUB", "SHARDCHANNELS")
		w.waitHeld("shop", 0)
		s.net.Close()
	})
}
