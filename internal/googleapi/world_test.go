package googleapi

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/auth"
	"holdfast/internal/control"
	"holdfast/internal/driver/memory"
	"holdfast/internal/router"
	"holdfast/internal/source"
	"holdfast/internal/store"
)

// world is a door with the real control behind it, over the memory driver, in
// fake time.
type world struct {
	t       *testing.T
	dir     string
	token   string
	door    http.Handler
	store   *store.Store
	sources *source.Store
	builder *builder
	tokens  *auth.Tokens
	guard   *auth.Guard
	control *control.Controller
}

// house is the server of a world.
type house struct{ dir string }

func (h house) Place() Place            { return Place{Domain: "localhost", Port: ":8080", Region: "local"} }
func (h house) LogDir() string          { return filepath.Join(h.dir, "logs") }
func (h house) OperationLogDir() string { return filepath.Join(h.dir, "operations") }

// builder makes artifacts at once, unless it is to fail.
type builder struct {
	mu    sync.Mutex // guards the following
	built map[string]bool
	fail  error
}

func (b *builder) Has(a app.Artifact) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.built[a.ID]
}

func (b *builder) Build(_ context.Context, _ string, v app.Version) (app.Artifact, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return app.Artifact{}, b.fail
	}
	b.built["build of "+v.Source] = true
	return app.Artifact{ID: "build of " + v.Source, Dir: "/build", Command: "./app"}, nil
}

type buildFailure struct{}

func (buildFailure) Error() string { return "go build: exit status 1" }
func (buildFailure) Failure() app.Failure {
	return app.Failure{Cause: app.BuildFailed, Detail: "go build: exit status 1", Next: "mend it", Tail: []string{"main.go:1: no"}}
}

// plane carries nothing.
type plane struct{}

func (plane) Set(router.Routes)                                     {}
func (plane) Load() map[string]router.Load                          { return nil }
func (plane) Busy(string) int                                       { return 0 }
func (plane) Shed(string, int, app.Cause) int                       { return 0 }
func (plane) Expire(app.Key, float64, time.Time, time.Duration) int { return 0 }

func inWorld(t *testing.T, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, dir: t.TempDir(), store: store.Memory(), builder: &builder{built: map[string]bool{}}}
		tokens, err := auth.Open(w.dir)
		if err != nil {
			t.Fatal(err)
		}
		if w.token, err = auth.Read(auth.Path(w.dir)); err != nil {
			t.Fatal(err)
		}
		if w.sources, err = source.Open(filepath.Join(w.dir, "source")); err != nil {
			t.Fatal(err)
		}
		w.tokens = tokens
		w.guard = auth.NewGuard(tokens, slog.New(slog.DiscardHandler))
		w.control = control.New(memory.New(), plane{}, w.store, control.Config{
			Builder: w.builder,
			// Every instance takes connections at once.
			Dial: func(context.Context, string, string) (net.Conn, error) {
				ours, theirs := net.Pipe()
				go func() { io.Copy(io.Discard, theirs); theirs.Close() }() // ends with ours
				return ours, nil
			},
		})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.control.Run(ctx) }()
		w.open()
		test(w)
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// open opens the door, as a new server does on what the former left.
func (w *world) open() {
	w.t.Helper()
	var err error
	w.door, err = New(Engine{Control: w.control, Store: w.store, Sources: w.sources, House: house{w.dir}},
		Config{Guard: w.guard, Dir: filepath.Join(w.dir, "staging"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		w.t.Fatal(err)
	}
}

// answer is what a request was answered.
type answer struct {
	*httptest.ResponseRecorder
	json map[string]any
}

// at is a value within the answer, by a path such as split.allocations.v1.
func (a answer) at(path string) any {
	var v any = a.json
	for part := range strings.SplitSeq(path, "/") {
		switch x := v.(type) {
		case map[string]any:
			v = x[part]
		case []any:
			i := 0
			fmt.Sscan(part, &i)
			if i >= len(x) {
				return nil
			}
			v = x[i]
		default:
			return nil
		}
	}
	return v
}

// ask sends a request. headers are "Name: value".
func (w *world) ask(method, target, body string, headers ...string) answer {
	w.t.Helper()
	r := httptest.NewRequest(method, "http://127.0.0.1:8079"+target, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+w.token)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	rec := httptest.NewRecorder()
	w.door.ServeHTTP(rec, r)
	a := answer{ResponseRecorder: rec}
	if strings.HasPrefix(rec.Header().Get("Content-Type"), "application/json") && rec.Body.Len() > 0 {
		if err := json.Unmarshal(rec.Body.Bytes(), &a.json); err != nil {
			w.t.Errorf("%s %s: %v in %s", method, target, err, rec.Body)
		}
	}
	return a
}

// fine is ask for what must go well.
func (w *world) fine(method, target, body string, headers ...string) answer {
	w.t.Helper()
	a := w.ask(method, target, body, headers...)
	if a.Code != 200 || a.at("error") != nil {
		w.t.Fatalf("%s %s: %d %s", method, target, a.Code, a.Body)
	}
	return a
}

func sum(text string) string {
	s := sha1.Sum([]byte(text))
	return hex.EncodeToString(s[:])
}

// asParts is an upload as gcloud writes it: a boundary in single quotes, bare
// line feeds.
func asParts(text string) (body, header string) {
	const boundary = "===============5095721608613937456=="
	return "--" + boundary + "\nContent-Type: application/json\nMIME-Version: 1.0\n\n" + fmt.Sprintf(`{"size": "%d"}`, len(text)) +
		"\n--" + boundary + "\nContent-Type: text/plain\nMIME-Version: 1.0\nContent-Transfer-Encoding: binary\n\n" + text +
		"\n--" + boundary + "--", "Content-Type: multipart/related; boundary='" + boundary + "'"
}

// manifest uploads files and lists them as versions.create does.
func (w *world) manifest(files map[string]string) string {
	w.t.Helper()
	list := map[string]map[string]string{}
	for name, text := range files {
		body, header := asParts(text)
		a := w.fine("POST", "/upload/storage/v1/b/staging.demo/o?alt=json&name="+sum(text)+"&uploadType=multipart", body, header)
		if a.at("size") != fmt.Sprint(len(text)) || a.at("name") != sum(text) {
			w.t.Fatalf("uploaded %s: %s", name, a.Body)
		}
		list[name] = map[string]string{"sha1Sum": sum(text), "sourceUrl": "https://storage.googleapis.com/staging.demo/" + sum(text)}
	}
	text, err := json.Marshal(list)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

const chatYAML = "runtime: python\nenv: flex\nentrypoint: gunicorn -b :$PORT main:app\nmanual_scaling:\n  instances: 2\nnetwork:\n  session_affinity: true\nenv_variables:\n  FOO: bar\n"

// version is the body of versions.create as gcloud makes it of chatYAML.
func (w *world) version(id string, files map[string]string) string {
	w.t.Helper()
	return fmt.Sprintf(`{"id": %q, "env": "flex", "runtime": "vm", "betaSettings": {"module_yaml_path": "app.yaml", "vm_runtime": "python"},
 "entrypoint": {"shell": "gunicorn -b :$PORT main:app"}, "manualScaling": {"instances": 2}, "network": {"sessionAffinity": true},
 "envVariables": {"FOO": "bar"}, "handlers": [{"urlRegex": ".*", "script": {"scriptPath": "PLACEHOLDER"}}],
 "deployment": {"cloudBuildOptions": {"appYamlPath": "app.yaml", "cloudBuildTimeout": "1200s"}, "files": %s}}`, id, w.manifest(files))
}

// deploy has a version of the default service serve, as gcloud does.
func (w *world) deploy(id string) {
	w.t.Helper()
	a := w.fine("POST", "/v1/apps/demo/services/default/versions?alt=json", w.version(id, map[string]string{"app.yaml": chatYAML, "main.py": "app = '" + id + "'\n"}))
	for range 20 {
		if a.at("done") == true {
			break
		}
		a = w.fine("GET", "/v1/"+a.at("name").(string)+"?alt=json", "")
	}
	if a.at("done") != true {
		w.t.Fatalf("deploy %s: %s", id, a.Body)
	}
}
