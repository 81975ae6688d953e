package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"holdfast/internal/app"
	"holdfast/internal/appyaml"
	"holdfast/internal/build"
)

// check looks at the flags and fills in what they leave open.
func (r *runner) check() error {
	info, err := os.Stat(r.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &problem{what: fmt.Sprintf("there is no folder %s", r.dir), next: "Name the folder that holds the app.yaml, as in: holdfast run examples/chat"}
	case err != nil:
		return err
	case !info.IsDir():
		return &problem{what: fmt.Sprintf("%s is a file", r.dir), next: "Name the folder that holds the app.yaml: holdfast run " + filepath.Dir(r.dir)}
	}
	if r.dir, err = filepath.Abs(r.dir); err != nil {
		return err
	}
	if r.port < 0 || r.port > 65535 {
		return misuse{fmt.Errorf("--port=%d: want 0 to 65535", r.port)}
	}
	if err := r.checkDrill(); err != nil {
		return err
	}
	if r.project == "" {
		r.project = projectFrom(filepath.Base(r.dir))
	}
	for flag, value := range map[string]string{"project": r.project, "region": r.region} {
		if value != "" && !label.MatchString(value) {
			return misuse{fmt.Errorf("--%s=%s: want lower-case letters, digits and hyphens, as in a host name", flag, value)}
		}
	}
	if r.overlay, err = overlay(r.service, r.env, r.instances); err != nil {
		return err
	}
	if r.data == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			cache = os.TempDir() // no home directory, as in a bare container
		}
		sum := sha256.Sum256([]byte(r.dir))
		r.data = filepath.Join(cache, "holdfast", "run", filepath.Base(r.dir)+"-"+hex.EncodeToString(sum[:4]))
		r.builder = &build.Builder{Dir: filepath.Join(cache, "holdfast"), Log: r.log.With("room", "build")}
		return nil
	}
	if r.data, err = filepath.Abs(r.data); err != nil {
		return err
	}
	r.builder = &build.Builder{Dir: r.data, Log: r.log.With("room", "build")}
	return nil
}

var (
	label = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	unfit = regexp.MustCompile(`[^a-z0-9]+`)
)

// projectFrom makes a project id of a folder's name.
func projectFrom(folder string) string {
	id := strings.Trim(unfit.ReplaceAllString(strings.ToLower(folder), "-"), "-")
	if len(id) > 30 { // App Engine's own bound for project ids
		id = strings.Trim(id[:30], "-")
	}
	if id == "" {
		return "app"
	}
	return id
}

// read reads app.yaml and lays the flags over it.
func (r *runner) read() (app.Version, error) {
	name := filepath.Join(r.dir, "app.yaml")
	data, err := readAtMost(name, appYAMLMax)
	if errors.Is(err, fs.ErrNotExist) {
		return app.Version{}, noAppYAML(r.dir)
	}
	if err != nil {
		return app.Version{}, err
	}
	v, warnings, err := appyaml.Parse(shorten(name), data)
	if err != nil {
		return app.Version{}, &problem{what: err.Error(), err: err}
	}
	for _, w := range warnings {
		r.screen.warn("%s", w)
	}
	v.App = r.project
	if err := r.overlay.Apply(&v); err != nil {
		return app.Version{}, misuse{err}
	}
	if r.watch {
		v.Drain = min(v.Drain, watchDrain)
	}
	return v, nil
}

// overlay is what the flags of run and deploy say beside app.yaml.
func overlay(service string, env []string, instances int) (appyaml.Overlay, error) {
	o := appyaml.Overlay{Service: service, Env: map[string]string{}, Instances: instances}
	for _, e := range env {
		name, value, ok := strings.Cut(e, "=")
		if !ok {
			return o, misuse{fmt.Errorf("--env=%s: want KEY=VALUE", e)}
		}
		o.Env[name] = value
	}
	if instances < 0 || instances > appyaml.InstancesMax {
		return o, misuse{fmt.Errorf("--instances=%d: want 1 to %d", instances, appyaml.InstancesMax)}
	}
	if err := o.Check(); err != nil {
		return o, misuse{errors.New(strings.TrimSuffix(err.Error(), ": "+app.ErrInvalid.Error()))}
	}
	return o, nil
}

// noAppYAML is the error of a folder without one.
func noAppYAML(dir string) error {
	return &problem{
		what: fmt.Sprintf("there is no app.yaml in %s", dir), err: fs.ErrNotExist,
		next: "The smallest one for a Go app says:\n\n    runtime: go\n    env: flex\n",
	}
}

// readAtMost reads a file, and no more than limit bytes of it.
func readAtMost(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

// shorten gives a path as the person would type it: relative to where they
// are, when that is shorter.
func shorten(path string) string {
	here, err := os.Getwd()
	if err != nil {
		return path
	}
	if rel, err := filepath.Rel(here, path); err == nil && len(rel) < len(path) {
		return rel
	}
	return path
}
