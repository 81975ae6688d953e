package auth

import (
	"context"
	"log/slog"
	"math/bits"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// failuresKept bounds the addresses whose failures are counted; failuresFor is
	// how long after its last one an address is remembered.
	failuresKept = 10_000
	failuresFor  = 10 * time.Minute

	// slowAfter is how many failures an address has free: a typing error, and the
	// four tries of gcloud. Each one after that is answered later, by slowStep
	// more, up to slowMost. Nobody guesses a token; this keeps those who try from
	// costing much.
	slowAfter = 5
	slowStep  = 250 * time.Millisecond
	slowMost  = 3 * time.Second

	// slowPlaces bounds how many answers are held back at once; more are refused
	// at once, as too many.
	slowPlaces = 64
)

// failures counts what addresses got wrong.
type failures struct {
	log   *slog.Logger
	slow  chan struct{} // a place for each answer that is held back
	mu    sync.Mutex    // guards the following
	known map[string]failure
}

type failure struct {
	count uint
	last  time.Time
}

// failed notes a failure, logs the first, second, fourth and so on of an
// address, and holds the answer back for a while. It says whether there was
// room to.
func (f *failures) failed(r *http.Request) bool {
	client, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		client = r.RemoteAddr
	}
	count := f.count(client)
	if bits.OnesCount(count) == 1 {
		f.log.Warn("token refused", "client", client, "method", r.Method, "path", r.URL.Path, "times", count)
	}
	if count <= slowAfter {
		return true
	}
	select {
	case f.slow <- struct{}{}:
		defer func() { <-f.slow }()
	default:
		return false
	}
	ctx, stop := context.WithTimeout(r.Context(), min(slowMost, time.Duration(min(count, 1000)-slowAfter)*slowStep))
	defer stop()
	<-ctx.Done()
	return true
}

func (f *failures) count(client string) uint {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if len(f.known) >= failuresKept {
		for client, old := range f.known {
			if now.Sub(old.last) > failuresFor {
				delete(f.known, client)
			}
		}
		if len(f.known) >= failuresKept {
			clear(f.known)
		}
	}
	n := f.known[client]
	if now.Sub(n.last) > failuresFor {
		n.count = 0
	}
	n.count, n.last = n.count+1, now
	f.known[client] = n
	return n.count
}
