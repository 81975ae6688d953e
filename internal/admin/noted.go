package admin

import (
	"io"
	"sync"
)

// noted is a reader that remembers how far it was read and how it ended, so
// that its own error can be told from that of whoever read it. The HTTP client
// may read a body after it has given its answer.
type noted struct {
	r io.Reader

	mu    sync.Mutex // guards the following
	bytes int64
	err   error
}

func (n *noted) Read(p []byte) (int, error) {
	k, err := n.r.Read(p)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.bytes += int64(k)
	if err != nil {
		n.err = err
	}
	return k, err
}

// seen is how many bytes were read, and the error that ended it: io.EOF for a
// good end, nil while there may be more.
func (n *noted) seen() (int64, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.bytes, n.err
}
