package edge

import (
	"context"
	"net"
	"net/http"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// What a handshake needs for a moment, some tens of kilobytes of buffers and
// headers, is garbage when the connection has been upgraded. Go gives such
// memory back when its next collection comes, which on a server full of idle
// sockets is never: nothing is allocated any more. So after a burst of upgrades
// the memory is given back on purpose.

const (
	// memoryLook is how often is looked whether a burst is over.
	memoryLook = 500 * time.Millisecond

	// burst is how many upgrades are worth a collection: some 10 MB.
	burst = 250

	// memoryWait bounds how long a burst that never pauses can hold its garbage.
	memoryWait = time.Minute
)

// bursts counts upgrades, for whom it is the http.Server's ConnState.
type bursts struct{ upgrades atomic.Int64 }

func (b *bursts) state(conn net.Conn, s http.ConnState) {
	if s == http.StateHijacked {
		conn.(interface{ hijacked() }).hijacked()
		b.upgrades.Add(1)
	}
}

// run gives memory back after bursts, until ctx ends.
func (b *bursts) run(ctx context.Context) {
	tick := time.NewTicker(memoryLook)
	defer tick.Stop()
	given, seen := int64(-burst), int64(0) // upgrades when memory was last given back, at first what starting took, and at the last look
	began := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := b.upgrades.Load()
		if now-given < burst {
			began = time.Now()
		} else if now == seen || time.Since(began) > memoryWait {
			debug.FreeOSMemory()
			given = now
		}
		seen = now
	}
}
