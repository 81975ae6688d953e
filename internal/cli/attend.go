package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/fatih/color"

	"holdfast/internal/app"
	"holdfast/internal/control"
	"holdfast/internal/logs"
)

// announce prints the one address to click, and begins to follow the logs.
func (r *runner) announce(v app.Version, port int) {
	host := "localhost"
	if r.host != "127.0.0.1" && r.host != "::1" && r.host != "0.0.0.0" && r.host != "::" {
		host = r.host
	}
	scheme := "http"
	if r.tls {
		scheme = "https"
	}
	url := fmt.Sprintf("%s://%s:%d", scheme, host, port)
	r.screen.say("\n  %s is served at %s\n", v.App, color.New(color.Bold, color.Underline).Sprint(url))
	if r.authority != nil {
		r.sayTrust()
	}
	r.screen.say("  Look at it in its console: http://%s%s\n", r.console.Addr(), r.server.Invitation())
	instances := r.server.Instances()
	for _, i := range instances {
		r.screen.fit(i.ID)
	}
	r.screen.remark("limits: %s; logs in %s", r.server.Limits(), shorten(r.server.LogDir()))
	r.mu.Lock()
	r.announced = true
	r.mu.Unlock()
	for _, i := range instances {
		r.follow.begin(i.ID, r.server.LogPath(i.ID), i.Born)
	}
	if r.open {
		if err := openBrowser(url); err != nil {
			r.screen.warn("no browser could be opened: %v", err)
		}
	}
}

// attend waits for the end, rolling over at each saved file if asked to.
func (r *runner) attend(ctx context.Context) error {
	if r.tree == nil {
		<-ctx.Done()
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	changed, ended := make(chan struct{}, 1), make(chan error, 1)
	go func() { ended <- r.tree.run(ctx, changed) }()
	defer func() { cancel(); <-ended }()
	r.screen.remark("watching %s", shorten(r.dir))
	for {
		select {
		case <-changed:
			r.rollOver(ctx)
		case err := <-ended:
			ended <- nil // for the wait above
			return err
		}
	}
}

// rollOver serves what was saved. What fails leaves the old code serving.
func (r *runner) rollOver(ctx context.Context) {
	v, err := r.read()
	if err == nil {
		err = r.deploy(ctx, v)
	}
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		r.screen.problem(err)
		r.screen.remark("the old code goes on serving")
		return
	}
	r.screen.remark("new connections go to the new code")
}

// event prints what happens to instances, once the first ones are served; until
// then the step under way stands for it, and its error tells the rest.
func (r *runner) event(e control.Event) {
	i := e.Instance
	r.mu.Lock()
	announced := r.announced
	r.mu.Unlock()
	if !announced {
		return
	}
	text := i.ID + " is " + i.State.String()
	if i.Cause != "" {
		text += " (" + string(i.Cause) + ")"
	}
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	switch i.State {
	case app.Starting:
		r.follow.begin(i.ID, r.server.LogPath(i.ID), i.Born)
	case app.Stopped:
		r.follow.end(i.ID)
	}
	r.screen.remark("%s", text)
}

// remark writes a line of Holdfast's own among those of the instances.
func (s *screen) remark(format string, args ...any) {
	s.log("holdfast", logs.Line{Stream: logs.System, Text: fmt.Sprintf(format, args...)})
}

// warn writes something that is not as it should be, and does not stop us.
func (s *screen) warn(format string, args ...any) {
	s.line(color.YellowString("! ") + fmt.Sprintf(format, args...))
}

// problem writes an error that does not end the program.
func (s *screen) problem(err error) {
	var p *problem
	if !errors.As(err, &p) {
		p = &problem{what: err.Error()}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopLocked()
	tell(s.out, p)
}
