package router

import (
	"net/http"
	"sync"
	"time"
)

// watch bounds how long a client may take nothing of what is written to its
// HTTP/2 stream, or send nothing of a body that is waited for. The edge does so
// for whole connections; a stream stalls by itself when its client opens no
// window for it. A nil watch does nothing.
type watch struct {
	out   *http.ResponseController
	stall time.Duration

	mu   sync.Mutex // guards the following
	over bool       // the handler has returned: net/http has nothing to be told any more
}

// writes begins to watch a write; what it returns ends that.
func (w *watch) writes() (end func()) {
	return w.start(func() { w.out.SetWriteDeadline(past) })
}

// reads begins to watch a read; what it returns ends that.
func (w *watch) reads() (end func()) {
	return w.start(func() { w.out.SetReadDeadline(past) })
}

func (w *watch) start(cut func()) (end func()) {
	if w == nil {
		return func() {}
	}
	ended := false
	timer := time.AfterFunc(w.stall, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if !ended && !w.over {
			cut()
		}
	})
	return func() {
		timer.Stop()
		w.mu.Lock()
		defer w.mu.Unlock()
		ended = true
	}
}

// end is called when the handler returns.
func (w *watch) end() {
	if w != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.over = true
	}
}
