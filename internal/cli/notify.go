package cli

import (
	"net"
	"os"
	"time"
)

// notifyTime bounds telling the service manager; it only reads a datagram.
const notifyTime = time.Second

// notify tells the service manager, if there is one, how we stand, such as
// "READY=1"; see sd_notify(3). A manager that does not listen is no reason not
// to serve.
func notify(state string) {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return
	}
	defer c.Close()
	c.SetWriteDeadline(time.Now().Add(notifyTime))
	c.Write([]byte(state))
}
