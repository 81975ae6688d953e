package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"holdfast/internal/auth"
)

// How a command finds the server: what was said on the command line or in the
// environment; else the saved context; else a server of this machine, by the
// file that it keeps in its data directory while it runs.

const (
	placeFile  = "admin.json"        // in a data directory, while its server runs
	latestFile = "server.json"       // in the user's configuration: the server started last
	systemData = "/var/lib/holdfast" // of the service in contrib/

	// knockTime bounds asking whether anybody listens on this machine, which is
	// told in microseconds.
	knockTime = 2 * time.Second

	smallFileMax = 64 << 10 // bytes of a file of ours
)

// place is where a running server is found: DATA/admin.json.
type place struct {
	URL string `json:"url"`
	PID int    `json:"pid"`
}

// latest is the file in the user's configuration.
type latest struct {
	Data string `json:"data"`
}

// reach is a server that was found, and how to speak to it.
type reach struct {
	url, token string
	how        string // for people: why this one
}

// announcePlace leaves word of a server for the commands of this machine.
func announcePlace(data string, p place) error {
	if err := writeJSON(filepath.Join(data, placeFile), p, 0o644); err != nil {
		return err
	}
	// Only a convenience, and services have no home.
	if dir, err := configDir(); err == nil {
		_ = writeJSON(filepath.Join(dir, latestFile), latest{data}, 0o600)
	}
	return nil
}

// forgetPlace takes the word back, unless a successor has left its own.
func forgetPlace(data string, p place) {
	var now place
	name := filepath.Join(data, placeFile)
	if readJSON(name, &now) == nil && now == p {
		os.Remove(name)
	}
}

// configDir is the folder of our files in the user's configuration.
func configDir() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "holdfast"), nil
}

// findServer finds the server that a command means. server and tokenFile are
// what was said, "" if nothing was.
func findServer(server, tokenFile string) (reach, error) {
	r, err := findURL(server)
	if err != nil {
		return r, err
	}
	if tokenFile != "" {
		if r.token, err = auth.Read(tokenFile); err != nil {
			return r, &problem{what: fmt.Sprintf("the token cannot be read: %v", err), err: err}
		}
	}
	if r.token == "" {
		return r, &problem{
			what: fmt.Sprintf("there is no token for the server at %s", r.url),
			next: "Name the file that holds it with --token-file=FILE, or keep it with: holdfast login " + r.url,
		}
	}
	return r, nil
}

// findURL finds the server, and its token if that is known.
func findURL(server string) (reach, error) {
	all, err := readContexts()
	if err != nil {
		return reach{}, err
	}
	if server != "" {
		address, err := serverURL(server)
		if err != nil {
			return reach{}, err
		}
		r := reach{url: address, how: "--server or HOLDFAST_SERVER"}
		for _, c := range all.Contexts {
			if c.URL == address {
				r.token = c.Token
				return r, nil
			}
		}
		for _, data := range dataFolders() { // one of this machine, by another way
			var p place
			if readJSON(filepath.Join(data, placeFile), &p) == nil && p.URL == address && alive(p.PID) {
				r.token, _ = auth.Read(auth.Path(data))
			}
		}
		return r, nil
	}
	if c, ok := all.Contexts[all.Current]; ok {
		return reach{url: c.URL, token: c.Token, how: "context " + all.Current}, nil
	}
	return findLocal()
}

// findLocal finds a server that runs on this machine.
func findLocal() (reach, error) {
	var looked []string
	for _, data := range dataFolders() {
		var p place
		err := readJSON(filepath.Join(data, placeFile), &p)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			looked = append(looked, data+": no server runs there")
			continue
		case err != nil:
			looked = append(looked, err.Error())
			continue
		}
		if !alive(p.PID) || !listens(p.URL) {
			looked = append(looked, data+": its server does not run any more")
			continue
		}
		token, err := auth.Read(auth.Path(data))
		if errors.Is(err, fs.ErrPermission) {
			return reach{}, &problem{
				what: fmt.Sprintf("a server runs in %s, and its token is not for you to read", data), err: err,
				next: "Ask as the user who runs it (sudo), or for a copy of the token: --token-file=FILE.",
			}
		}
		if err != nil {
			return reach{}, &problem{what: err.Error(), err: err}
		}
		return reach{url: p.URL, token: token, how: data}, nil
	}
	return reach{}, &problem{
		what: "no server was found", title: "Looked at:", lines: looked,
		next: "Start one here with: holdfast serve\nOr name one that runs elsewhere: --server=URL --token-file=FILE, or holdfast login URL.",
	}
}

// dataFolders are the data directories where a server may be, the likeliest
// first, each once.
func dataFolders() []string {
	var all []string
	add := func(dir string) {
		if dir == "" {
			return
		}
		if abs, err := filepath.Abs(dir); err == nil {
			dir = abs
		}
		for _, d := range all {
			if d == dir {
				return
			}
		}
		all = append(all, dir)
	}
	add(os.Getenv("HOLDFAST_DATA"))
	add("holdfast-data")
	if dir, err := configDir(); err == nil {
		var l latest
		if readJSON(filepath.Join(dir, latestFile), &l) == nil {
			add(l.Data)
		}
	}
	add(systemData)
	return all
}

// alive says whether a process exists. The port of one that does not may be
// somebody else's by now, who must not be told the token.
func alive(pid int) bool {
	err := syscall.Kill(pid, 0)
	return pid > 0 && (err == nil || errors.Is(err, syscall.EPERM))
}

// listens says whether somebody takes connections at a URL.
func listens(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	c, err := net.DialTimeout("tcp", u.Host, knockTime)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// serverURL makes a whole URL of what a person wrote.
func serverURL(text string) (string, error) {
	whole := text
	if !strings.Contains(whole, "://") {
		whole = "http://" + whole
	}
	u, err := url.Parse(whole)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return "", misuse{fmt.Errorf("%q is no server: write its URL, as in http://127.0.0.1:8079", text)}
	}
	return u.Scheme + "://" + u.Host, nil
}

// readJSON reads a small file of ours.
func readJSON(name string, into any) error {
	data, err := readAtMost(name, smallFileMax)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// writeJSON writes a small file of ours beside its place, synced, and renames
// it there.
func writeJSON(name string, value any, mode fs.FileMode) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it is renamed
	_, err = f.Write(append(text, '\n'))
	if err := errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
