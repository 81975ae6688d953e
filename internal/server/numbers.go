package server

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/auth"
	"holdfast/internal/metrics"
)

// scrapeWrite bounds how long who scrapes may take to read an answer.
const scrapeWrite = 30 * time.Second

// numbers shows what Prometheus scrapes to who may look.
func (s *Server) numbers(guard *auth.Guard) http.Handler {
	house := metrics.House{
		Program:  s.cfg.Program,
		Router:   s.router,
		Control:  s.control,
		Certs:    s.certs,
		Messages: s.Messages,
		Services: func() map[app.ServiceKey]app.Service { return s.wishes.Wishes().Services },
	}
	if s.traces != nil {
		house.Traces = s.traces.Numbers
	}
	shown := metrics.New(house, s.cfg.Log.With("room", "metrics"))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Not all writers can, those of tests for one; they need not.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(scrapeWrite))
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		caller, err := guard.Admit(r)
		if err == nil {
			err = auth.Need(caller, auth.Viewer)
		}
		if err == nil && r.Method != http.MethodGet {
			h.Set("Allow", http.MethodGet)
			err = &auth.Refusal{Status: http.StatusMethodNotAllowed, What: "numbers can only be read", Next: "Use GET."}
		}
		if err != nil {
			refuseScrape(w, err)
			return
		}
		shown.ServeHTTP(w, r)
	})
}

// refuseScrape says why in the log of who scrapes, which shows the status line,
// and to a person with curl.
func refuseScrape(w http.ResponseWriter, err error) {
	refused := &auth.Refusal{Status: http.StatusInternalServerError, What: "internal error"}
	errors.As(err, &refused)
	if refused.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="holdfast"`)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(refused.Status)
	fmt.Fprintln(w, refused.What)
	fmt.Fprintln(w, refused.Next)
}
