package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"holdfast/internal/admin"
)

// logPatience is how long the last lines of an operation's log are waited for
// once it has ended.
const logPatience = 2 * time.Second

// await shows how an operation goes on until it has ended. did says what was
// done, for people, when it went well. Ctrl-C ends the waiting and nothing else.
func (r *remote) await(ctx context.Context, op admin.Operation, did string) error {
	s := newScreen(os.Stdout)
	if r.format == formatJSON { // what is printed is the operation and nothing else
		s = newScreen(os.Stderr)
	}
	if !op.Done() {
		var err error
		if op, err = r.follow(ctx, s, op); err != nil {
			return err
		}
	}
	if r.format == formatJSON {
		if err := printJSON(op); err != nil {
			return err
		}
	}
	if op.Failure != nil {
		return failed(op)
	}
	if r.format != formatJSON {
		s.done("%s", did)
	}
	return nil
}

// follow waits for the end of an operation, with its stages as steps and what
// it logs beneath them.
func (r *remote) follow(ctx context.Context, s *screen, op admin.Operation) (admin.Operation, error) {
	reading, enough := context.WithCancel(ctx)
	defer enough()
	read := make(chan struct{})
	show := sync.OnceFunc(func() { // below the first step, not above it
		go func() {
			defer close(read)
			// What cannot be shown of the log is no reason to stop waiting: the
			// operation's own failure holds its last lines.
			_ = r.OperationLog(reading, op.ID, true, func(l admin.LogLine) error {
				_, err := fmt.Fprintln(s, l.Text)
				return err
			})
		}()
	})
	stage := ""
	last, err := r.Follow(ctx, op.ID, func(now admin.Operation) {
		if now.Done() {
			return
		}
		if stage != "" {
			s.done("%s", stageDone(stage))
		}
		stage = now.Stage
		s.begin("%s", stageNow(now))
		show()
	})
	show() // where there was no step, so that there is an end to wait for
	select {
	case <-read:
	case <-time.After(logPatience):
	}
	enough()
	<-read
	if errors.Is(err, context.Canceled) {
		s.fail()
		return op, &problem{
			what: fmt.Sprintf("the server goes on with operation %s by itself", op.ID), err: err,
			next: fmt.Sprintf("How it goes:  holdfast operations describe %s\nGive it up:   holdfast operations cancel %s", op.ID, op.ID),
		}
	}
	if err != nil {
		s.fail()
		return op, err
	}
	if last.Failure == nil && stage != "" {
		s.done("%s", stageDone(stage))
	} else {
		s.fail()
	}
	return last, nil
}

// stageNow says what a stage does.
func stageNow(op admin.Operation) string {
	switch {
	case op.Stage == "building":
		return "Building " + target(op)
	case op.Drill != nil:
		return "Drilling " + target(op) + ": " + op.Drill.Drill
	case op.Instance != "":
		return "Waiting until another takes its place"
	}
	return "Waiting until enough instances are ready"
}

// stageDone says that it has been done.
func stageDone(stage string) string {
	switch stage {
	case "building":
		return "Built"
	case "starting":
		return "Ready"
	case "drilling":
		return "Mended"
	}
	return stage
}

// target names what an operation is about.
func target(op admin.Operation) string {
	if op.Instance != "" {
		return op.Instance
	}
	var parts []string
	for _, part := range []string{op.App, op.Service, op.Version} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "/")
}

// failed is the error of an operation that did not succeed.
func failed(op admin.Operation) error {
	f := op.Failure
	p := &problem{
		what:  fmt.Sprintf("%s of %s failed (%s)", op.Verb, target(op), f.Cause),
		title: "The last lines:", lines: f.Tail,
	}
	if f.Detail != "" {
		p.what += ": " + f.Detail
	}
	if f.Next != "" {
		p.next = "Next: " + f.Next + "\n"
	}
	p.next += "Nothing has moved; it was operation " + op.ID + "."
	return p
}
