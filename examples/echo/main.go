// Echo shows what reaches an instance, and misbehaves when asked to: answers.go
// has what it answers, switches.go what makes it slow, unready, crash, hang or
// leak. It serves first experiments and tests. Start reading at newServer.
//
// Anybody who reaches it can stop it: it is not for the open internet.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

const (
	// finishMax bounds the end: App Engine kills an instance 25 to 30 seconds
	// after SIGTERM.
	finishMax = 24 * time.Second

	headerTimeout = 10 * time.Second // for a stranger who opens a connection and says nothing
	idleTimeout   = 2 * time.Minute  // longer than a front end keeps its idle connections
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "echo:", err)
		os.Exit(1)
	}
}

// run serves until SIGTERM, then finishes the requests in flight.
func run() error {
	if s := os.Getenv("ECHO_EXIT_AT_START"); s != "" {
		code, err := strconv.Atoi(s)
		if err != nil {
			return fmt.Errorf("ECHO_EXIT_AT_START: %w", err)
		}
		fmt.Fprintln(os.Stderr, "echo: ends at once, as ECHO_EXIT_AT_START asks, with code", code)
		os.Exit(code)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	if s := os.Getenv("ECHO_START_DELAY"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			return fmt.Errorf("ECHO_START_DELAY: %w", err)
		}
		fmt.Println("echo: listens in", d)
		if !waitFor(d, signals) {
			return nil
		}
	}
	if os.Getenv("ECHO_NEVER_LISTEN") != "" {
		fmt.Println("echo: never listens, as ECHO_NEVER_LISTEN asks")
		<-signals
		return nil
	}

	e := newEcho()
	listener, err := net.Listen("tcp", ":"+env("PORT", "8080"))
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: newServer(e), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }() // ends with Shutdown below
	fmt.Printf("echo: instance %s of %s/%s listens on %s\n", e.Instance, e.Service, e.Version, listener.Addr())
	fmt.Fprintln(os.Stderr, "echo: this line went to stderr")

	for {
		select {
		case err := <-served:
			return err
		case s := <-signals:
			if os.Getenv("ECHO_IGNORE_TERM") != "" || e.hung() {
				fmt.Fprintln(os.Stderr, "echo: does not hear", s)
				continue
			}
			fmt.Println("echo: heard", s, "and finishes what is in flight")
		}
		break
	}
	ctx, cancel := context.WithTimeout(context.Background(), finishMax)
	defer cancel()
	e.stop() // ends what has no end of its own: sockets and event streams
	err = errors.Join(srv.Shutdown(ctx), e.wait(ctx))
	fmt.Println("echo: has finished")
	return err
}

// waitFor reports false when a signal came first.
func waitFor(d time.Duration, signals <-chan os.Signal) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-signals:
		return false
	}
}

func env(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}
