package process

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
)

// Ports of instances lie below those that systems give to outgoing connections
// (32768 and up on Linux, 49152 on macOS), so that none of those takes one
// between our choice and the app's listening.
const (
	portFirst = 20000
	portLast  = 32767
)

// ports gives out the machine's ports one after the other, so that one that
// was just given back is the last to be used again: who still has the old
// address must not meet somebody else there.
type ports struct{ next int }

func newPorts() ports {
	// Drivers begin at different places; where it matters, holdPort keeps
	// them apart.
	return ports{next: portFirst + rand.IntN(portLast-portFirst+1)}
}

// take returns a port that is free on every address of the machine, and what
// holds its number against other drivers until it is closed. used are those
// that are listed.
func (p *ports) take(used map[int]bool) (int, *os.File, error) {
	for range portLast - portFirst + 1 {
		port := p.next
		if p.next++; p.next > portLast {
			p.next = portFirst
		}
		if used[port] {
			continue
		}
		hold, err := holdPort(port)
		if err != nil {
			continue // another driver has it
		}
		if portFree(port) {
			return port, hold, nil
		}
		hold.Close()
	}
	return 0, nil, fmt.Errorf("no port is free between %d and %d: stop some instances", portFirst, portLast)
}

// portFree says whether an app could listen on the port, whichever of the usual
// addresses it chooses. The single addresses are asked too because macOS lets a
// wildcard stand beside them.
func portFree(port int) bool {
	for _, try := range []struct{ network, host string }{
		{"tcp4", "127.0.0.1"}, {"tcp4", "0.0.0.0"}, {"tcp6", "::1"}, {"tcp6", "::"},
	} {
		l, err := net.Listen(try.network, net.JoinHostPort(try.host, strconv.Itoa(port)))
		if err != nil {
			if try.network == "tcp6" && !inUse(err) {
				continue // a machine without IPv6
			}
			return false
		}
		l.Close()
	}
	return true
}
