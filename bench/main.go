//go:build linux

// Command bench compares Holdfast with other proxies on this machine, all of
// them on loopback, each in turn between the same load generator and the same
// backend, and prints one table: medians of several rounds, and how Holdfast
// stands to the best of the others.
//
// It measures from outside: it knows nothing of how a proxy works, and takes
// memory and CPU time from the kernel. What fails is counted and told, and
// the exit status is 1 then.
//
// Start reading at rows.go, which says what is measured; stand.go puts a
// backend, a proxy and the generator together; load.go and jobs.go are the
// generator, backend.go what is behind the proxy, peers.go and the files in
// peers/ the proxies. Generator, backend, Go's own proxy and Holdfast's data
// plane are this program in another role, as processes of their own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

func main() {
	if isRole(os.Args) {
		os.Exit(playRole(os.Args))
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := bench(ctx, os.Args[1:], os.Stdout, os.Stderr)
	cancel()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// roles is what this program is when its first argument says so.
var roles = map[string]func([]string) error{
	"load":         generatorMain,
	"backend":      backendMain,
	"holdfast":     holdfastMain,
	"reverseproxy": reverseMain,
	"bus":          busMain,
	"busload":      busLoadMain,
}

func isRole(args []string) bool { return len(args) > 1 && roles[args[1]] != nil }

func playRole(args []string) (code int) {
	if err := roles[args[1]](args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "bench %s: %v\n", args[1], err)
		return 1
	}
	return 0
}

var errFailures = errors.New("not everything went well; see above")

// bench is the command.
func bench(ctx context.Context, args []string, out, progress io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(progress)
	rounds := flags.Int("rounds", 3, "how often everything is measured; the table has the medians")
	rows := flags.String("rows", "", "measure these alone, of "+names(groups(full), func(g group) string { return g.name }))
	only := flags.String("peers", "", "measure these alone, of "+names(peers(), func(p peer) string { return p.name }))
	small := flags.Bool("quick", false, "small numbers, one round: shows that it works, its figures mean little")
	profiles := flags.String("profile", "", "write CPU and heap profiles of Holdfast for each of the rows into this `directory`")
	file := flags.String("results", "", "write the table and the machine to this `file`, too")
	if err := flags.Parse(args); err != nil {
		return err
	}
	r := &runner{size: full, rounds: *rounds, profiles: *profiles, progress: progress}
	if *small {
		r.size, r.rounds = quick, 1
	}
	var err error
	if r.groups, err = choose(groups(r.size), *rows, func(g group) string { return g.name }); err != nil {
		return fmt.Errorf("-rows: %w", err)
	}
	if r.peers, err = choose(peers(), *only, func(p peer) string { return p.name }); err != nil {
		return fmt.Errorf("-peers: %w", err)
	}
	if *file != "" && (*small || *rows != "" || *only != "") {
		return errors.New("-results is for whole runs, without -quick, -rows and -peers")
	}
	if r.self, err = os.Executable(); err != nil {
		return err
	}
	var absent []string
	r.peers = slices.DeleteFunc(r.peers, func(p peer) bool {
		_, err := p.program(r.self)
		if err != nil {
			absent = append(absent, err.Error())
		}
		return err != nil
	})
	if r.dir, err = os.MkdirTemp("", "holdfast-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(r.dir)
	if r.profiles != "" {
		if r.profiles, err = filepath.Abs(r.profiles); err != nil {
			return err
		}
		if err := os.MkdirAll(r.profiles, 0o755); err != nil {
			return err
		}
	}
	if err := raiseDescriptors(r.size.descriptors()); err != nil {
		return err
	}
	m := thisMachine()
	results, err := r.run(ctx)
	if err != nil {
		return err
	}
	text := page(r, m, results, absent)
	fmt.Fprint(out, text)
	if *file != "" {
		if err := os.WriteFile(*file, []byte(text), 0o644); err != nil {
			return err
		}
	}
	if len(results.failed) > 0 {
		return errFailures
	}
	return nil
}

// choose picks those that a comma-separated list names; all when it is empty.
func choose[T any](all []T, list string, name func(T) string) ([]T, error) {
	if list == "" {
		return all, nil
	}
	var picked []T
	for want := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(all, func(t T) bool { return name(t) == strings.TrimSpace(want) })
		if i < 0 {
			return nil, fmt.Errorf("%q is none of %s", want, names(all, name))
		}
		picked = append(picked, all[i])
	}
	return picked, nil
}

func names[T any](all []T, name func(T) string) string {
	var list []string
	for _, t := range all {
		list = append(list, name(t))
	}
	return strings.Join(list, ", ")
}

// raiseDescriptors raises this process's limit, and so its children's.
func raiseDescriptors(need int) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if limit.Max < uint64(need) {
		return fmt.Errorf("the largest row needs %d descriptors in a process, and this machine allows %d (ulimit -Hn)", need, limit.Max)
	}
	limit.Cur = limit.Max
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}
