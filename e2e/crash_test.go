package e2e

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// killings is how often TestKilledAtAnyMoment kills the server: enough to meet
// every kind of change, or as HOLDFAST_KILLINGS says; the long run has 200.
func killings() int {
	if n, err := strconv.Atoi(os.Getenv("HOLDFAST_KILLINGS")); err == nil {
		return n
	}
	if os.Getenv("HOLDFAST_LONG") != "" {
		return 200
	}
	return 8
}

// A server is killed at a random moment of a deploy, a traffic change, a
// scaling, a restart or a restore, again and again. Each time its successor has
// to serve soon, and to go on with or undo what was under way: no wish that was
// acknowledged is lost, no version is half promoted, no instance is orphaned or
// there twice.
func TestKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	if s, err := strconv.ParseUint(os.Getenv("HOLDFAST_SEED"), 10, 64); err == nil {
		seed = s
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	t.Logf("again with: HOLDFAST_SEED=%d HOLDFAST_KILLINGS=%d go test -run KilledAtAnyMoment ./e2e", seed, killings())

	f := newFleet(t)
	dir := copyApp(t, "echo")
	f.start()
	f.up()
	f.do("deploy", dir, "--project=shop", "--version=v0", "--instances=1")
	backup := filepath.Join(t.TempDir(), "backup.tar")
	f.do("backup", backup)
	w := &world{t: t, f: f, rng: rng, dir: dir, backup: backup, shares: map[string]float64{"v0": 1}}
	w.know()

	var slowest time.Duration
	for n := range killings() {
		what, act := w.change(n)
		before := maps.Clone(w.shares)
		type answer struct {
			out  string
			code int
		}
		answered := make(chan answer, 1)
		go func() {
			out, errs, code := f.try(act.args...)
			answered <- answer{out + errs, code}
		}()
		time.Sleep(time.Duration(rng.Int64N(int64(act.within))))
		f.kill()

		began := time.Now()
		f.start()
		w.serves()
		slowest = max(slowest, time.Since(began))
		f.up()
		a := <-answered
		f.settled()
		shares := f.shares()
		acknowledged := a.code == 0
		switch {
		case maps.Equal(shares, act.shares):
		case !maps.Equal(shares, before):
			t.Fatalf("%d: %s: the split is %v, was %v and should become %v", n, what, shares, before, act.shares)
		case acknowledged && !maps.Equal(before, act.shares):
			t.Fatalf("%d: %s was acknowledged, and the split is still %v\n%s", n, what, shares, a.out)
		}
		w.shares = shares
		w.know()
		if acknowledged && act.check != nil {
			act.check()
		}
		w.answers()
		t.Logf("%d: %s, exit code %d, split %v", n, what, a.code, shares)
	}
	t.Logf("the slowest start until an answer took %v", slowest)
}

// world is what the test knows of the fleet.
type world struct {
	t           *testing.T
	f           *fleet
	rng         *rand.Rand
	dir, backup string
	shares      map[string]float64
	versions    []versionRow
}

// act is a change: what is typed, and what holds once it is done.
type act struct {
	args   []string
	shares map[string]float64
	within time.Duration // the killing comes some time in here
	check  func()        // when it was acknowledged
}

func (w *world) know() { w.versions = list[versionRow](w.f, "versions") }

// change chooses the next one.
func (w *world) change(n int) (string, act) {
	id := fmt.Sprintf("v%d", n+1)
	var serving, idle, stopped []string
	for _, v := range w.versions {
		switch {
		case v.Share > 0:
		case v.Serving:
			idle = append(idle, v.Version)
		default:
			stopped = append(stopped, v.Version)
		}
		if v.Serving {
			serving = append(serving, v.Version)
		}
	}
	one := func(of []string) string { return of[w.rng.IntN(len(of))] }
	unchanged := maps.Clone(w.shares)
	const quick, slow = 400 * time.Millisecond, 3 * time.Second
	for {
		switch w.rng.IntN(9) {
		case 0: // the same sources, other settings: nothing has to be built
			return "deploy " + id, act{args: []string{"deploy", w.dir, "--project=shop", "--version=" + id, "--instances=1", "--env=N=" + id},
				shares: map[string]float64{id: 1}, within: slow}
		case 1: // other sources
			appendTo(w.t, filepath.Join(w.dir, "main.go"), "\n// "+id+"\n")
			return "build and deploy " + id, act{args: []string{"deploy", w.dir, "--project=shop", "--version=" + id, "--instances=1"},
				shares: map[string]float64{id: 1}, within: 2 * slow}
		case 2:
			return "deploy --no-promote " + id, act{args: []string{"deploy", w.dir, "--project=shop", "--version=" + id, "--instances=1", "--no-promote", "--env=N=" + id},
				shares: unchanged, within: slow, check: func() { w.exists(id) }}
		case 3:
			if len(serving) > 1 {
				a, b := one(serving), one(serving)
				if a != b {
					return "split", act{args: []string{"traffic", "set", "default", a + "=70," + b + "=30", "--project=shop", "--by=cookie"},
						shares: map[string]float64{a: 0.7, b: 0.3}, within: quick}
				}
			}
		case 4:
			if len(stopped) > 0 {
				a := one(stopped)
				return "traffic to the stopped " + a, act{args: []string{"traffic", "set", "default", a + "=100", "--project=shop"},
					shares: map[string]float64{a: 1}, within: slow}
			}
		case 5:
			if len(idle) > 0 {
				a := one(idle)
				return "stop " + a, act{args: []string{"versions", "stop", a, "--project=shop", "--service=default"}, shares: unchanged, within: quick}
			}
		case 6:
			instances := w.f.running()
			if len(instances) > 0 {
				i := one(instances)
				return "restart " + i, act{args: []string{"instances", "restart", i}, shares: unchanged, within: slow}
			}
		case 7:
			if n%3 == 0 { // it begins everything anew
				return "restore", act{args: []string{"restore", w.backup, "--yes"}, shares: map[string]float64{"v0": 1}, within: quick}
			}
		case 8:
			a := slices.Sorted(maps.Keys(w.shares))[0]
			return "scale " + a, act{args: []string{"versions", "scale", a, "--instances=" + strconv.Itoa(1+w.rng.IntN(2)), "--project=shop", "--service=default"}, shares: unchanged, within: quick}
		}
	}
}

func (w *world) exists(id string) {
	w.t.Helper()
	if !slices.ContainsFunc(w.versions, func(v versionRow) bool { return v.Version == id }) {
		w.t.Errorf("version %s was acknowledged, and is not there", id)
	}
}

// shares is the split of the service, as it is.
func (f *fleet) shares() map[string]float64 {
	f.t.Helper()
	services := list[serviceRow](f, "services")
	if len(services) != 1 {
		f.t.Fatalf("services %+v, want one", services)
	}
	return services[0].Split.Shares
}

// serves waits until the app answers again.
func (w *world) serves() {
	w.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	eventually(w.t, "the app answers", func() bool {
		status, _, err := w.f.ask(context.Background(), client, "shop.localhost", "/")
		return err == nil && status == http.StatusOK
	})
}

// answers asks some times, and wants every answer from a version with a share.
func (w *world) answers() {
	w.t.Helper()
	client := &http.Client{Transport: &http.Transport{}, Timeout: patience}
	defer client.CloseIdleConnections()
	for range 10 {
		status, body, err := w.f.ask(context.Background(), client, "shop.localhost", "/")
		if err != nil || status != http.StatusOK {
			w.t.Fatalf("it answers %d, %v: %.200s", status, err, body)
		}
		if !slices.ContainsFunc(slices.Collect(maps.Keys(w.shares)), func(v string) bool { return strings.Contains(body, "/"+v+" ") || strings.Contains(body, "-"+v+"-") }) {
			w.t.Fatalf("the answer comes from none of %v: %.200s", w.shares, body)
		}
	}
}
