package build

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
)

const goInstall = "install Go from https://go.dev/dl/, or: apt install golang-go"

func chooseGo(ctx context.Context, j *job) ([]tool, error) {
	if !j.has("go.mod") {
		return nil, refuse(Prepare, "run \"go mod init NAME\" there; GOPATH style is no longer supported by App Engine",
			"runtime go needs a go.mod beside app.yaml")
	}
	if _, err := j.declared(); err != nil {
		return nil, err
	}
	c, err := j.versioned("Go", goInstall)
	if err != nil {
		return nil, err
	}
	if c.matches != nil {
		// A newer Go builds what an older one does, so the version is a minimum.
		wanted := parseFound(c.wanted)
		c.matches = func(found numbers) bool { return slices.Compare(found, wanted) >= 0 }
		c.wanted += " or newer"
	}
	if _, ok := j.machine.find("go"); !ok {
		j.machine["PATH"] = joinPath(filepath.SplitList(j.machine["PATH"]), "/usr/local/go/bin")
	}
	t, err := j.take(c, j.one(ctx, "Go", "go", "env", "GOVERSION"))
	return []tool{t}, err
}

func buildGo(ctx context.Context, j *job) (made, error) {
	more := environ{}
	if !j.has("go.work") {
		more["GOWORK"] = "off" // one above our own directory is none of the app's
	}
	env := j.environ(nil, more)
	pkg, err := goMain(ctx, j, env)
	if err != nil {
		return made{}, err
	}
	// The buildpacks call it main too, so that an entrypoint may name it.
	binary := j.at.path("bin", "main")
	err = j.run(ctx, command{phase: Compile, env: env,
		// Neither the copy's path nor a repository around it may reach the
		// binary: a changed line must find the rest in the build cache.
		argv: []string{"go", "build", "-trimpath", "-buildvcs=false", "-o", "../bin/main", pkg},
		next: "correct the code, then run it again"})
	if err != nil {
		return made{}, err
	}
	m := made{Path: []string{filepath.Dir(binary)}}
	if m.Command, err = j.declared(); err == nil && m.Command == "" {
		m.Command = shellQuote(binary)
	}
	return m, err
}

// goMain finds the package to build: what GOOGLE_BUILDABLE names, else the one
// beside go.mod, else the only main package of the module.
func goMain(ctx context.Context, j *job, env environ) (string, error) {
	if p := j.recipe.Env[buildableVar]; p != "" {
		if strings.HasPrefix(p, "-") {
			return "", refuse(Prepare, "", "%s %q is not a package", buildableVar, p)
		}
		return p, nil
	}
	j.phase(Prepare, "looking for the main package")
	name, err := j.ask(ctx, env, "go", "list", "-e", "-find", "-f", "{{.Name}}", ".")
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil || name == "main" {
		return ".", nil // on an error, let the compiler tell in its own words
	}
	list, err := j.ask(ctx, env, "go", "list", "-e", "-find", "-f", `{{if eq .Name "main"}}{{.ImportPath}}{{end}}`, "./...")
	if err != nil {
		return ".", nil
	}
	mains := strings.Fields(list)
	switch {
	case len(mains) == 1:
		return mains[0], nil
	case len(mains) == 0:
		return "", refuse(Prepare, "write a package main", "the module has no main package")
	}
	return "", refuse(Prepare, "name one under build_env_variables, as in "+buildableVar+": "+mains[0],
		"there is no main package beside app.yaml, and %d in the module", len(mains))
}
