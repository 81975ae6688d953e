package e2e

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// The scripts in testdata read like the manual: what a person types, and what
// holdfast answers.
func TestScripts(t *testing.T) {
	t.Parallel()
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { busy.Close() }) // after the scripts, which run in parallel
	_, port, _ := net.SplitHostPort(busy.Addr().String())
	testscript.Run(t, scripts("testdata", "BUSY="+port))
}

// scripts are those of a folder, with more variables.
func scripts(dir string, more ...string) testscript.Params {
	return testscript.Params{
		Dir:  dir,
		Cmds: commands,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", filepath.Dir(program)+string(os.PathListSeparator)+os.Getenv("PATH"))
			env.Setenv("BIN", filepath.Dir(program))
			env.Setenv("XDG_CACHE_HOME", caches)
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("GOCACHE", goCache)
			env.Setenv("GOMODCACHE", goEnv("GOMODCACHE"))
			env.Setenv("GOFLAGS", "")
			env.Setenv("NO_COLOR", "1")
			env.Vars = append(env.Vars, more...)
			env.Setenv("GORACE", "atexit_sleep_ms=0") // as in command
			give(env)
			// A copy, since a deploy looks at what it uploads.
			return os.CopyFS(filepath.Join(env.WorkDir, "echo"), os.DirFS("../examples/echo"))
		},
	}
}
