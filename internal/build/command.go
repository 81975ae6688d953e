package build

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
)

// procfileBytesMax bounds a Procfile; real ones have a few lines.
const procfileBytesMax = 64 << 10

// declared is the start command that the app declares: its entrypoint, then the
// web process of its Procfile. "" means that the runtime's default applies.
func (j *job) declared() (string, error) {
	if c := strings.TrimSpace(j.recipe.Entrypoint); c != "" {
		return c, nil
	}
	text, err := j.read("Procfile", procfileBytesMax)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", refuse(Prepare, "", "read Procfile: %w", err)
	}
	processes, err := parseProcfile(text)
	if err != nil {
		return "", refuse(Prepare, "write lines of the form \"web: COMMAND\"", "Procfile: %w", err)
	}
	web, ok := processes["web"]
	if !ok {
		return "", refuse(Prepare, "add a line \"web: COMMAND\", or an entrypoint to app.yaml", "Procfile has no web process")
	}
	return web, nil
}

// processName is what a process of a Procfile may be called.
var processName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// parseProcfile reads lines of the form "name: command". Blank lines and
// comments are passed over; of several lines with one name the first counts.
func parseProcfile(text string) (map[string]string, error) {
	all := map[string]string{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, command, ok := strings.Cut(line, ":")
		name, command = strings.TrimSpace(name), strings.TrimSpace(command)
		switch {
		case !ok || !processName.MatchString(name):
			return nil, fmt.Errorf("line %d: no \"name: command\"", n)
		case command == "":
			return nil, fmt.Errorf("line %d: %s has no command", n, name)
		case strings.ContainsAny(command, "\x00\r"):
			return nil, fmt.Errorf("line %d: a control character", n)
		}
		if _, ok := all[name]; !ok {
			all[name] = command
		}
	}
	return all, nil
}

// read reads a small file of the app: of the copy once there is one, else of
// the sources.
func (j *job) read(name string, most int64) (string, error) {
	if j.at.app == "" {
		return j.src.read(name, most)
	}
	root, err := os.OpenRoot(j.at.app)
	if err != nil {
		return "", err
	}
	defer root.Close()
	return readSmall(root, name, most)
}

// has says whether the app has a file of that name.
func (j *job) has(name string) bool {
	if j.at.app == "" {
		return j.src.has(name)
	}
	root, err := os.OpenRoot(j.at.app)
	if err != nil {
		return false
	}
	defer root.Close()
	info, err := root.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

// firstOf returns the first of the names that the app has, "" for none.
func (j *job) firstOf(names ...string) string {
	for _, n := range names {
		if j.has(n) {
			return n
		}
	}
	return ""
}
