package edge

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
)

// xconnect has net/http offer WebSockets over HTTP/2 (RFC 8441). It looks for it
// in the environment, once, before any line of ours runs.
const xconnect = "http2xconnect=1"

// OfferSockets makes Serve offer WebSockets over HTTP/2. Unless the environment
// has already said so when the program started, it starts the program again:
// the same process, with the same arguments, so it is called before anything
// else is done. It returns when that is so, or an error if the program cannot be
// started; then everything works, and there are no WebSockets over HTTP/2. What
// is started later finds nothing of it in the environment.
func OfferSockets() error {
	given, said := os.LookupEnv("GODEBUG")
	words := slices.DeleteFunc(strings.Split(given, ","), func(w string) bool { return w == xconnect || w == "" })
	if strings.Contains(given, xconnect) {
		if len(words) == 0 {
			return os.Unsetenv("GODEBUG")
		}
		return os.Setenv("GODEBUG", strings.Join(words, ","))
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("offer WebSockets over HTTP/2: %w", err)
	}
	env := os.Environ()
	if said {
		env = slices.DeleteFunc(env, func(v string) bool { return strings.HasPrefix(v, "GODEBUG=") })
	}
	env = append(env, "GODEBUG="+strings.Join(append(words, xconnect), ","))
	return fmt.Errorf("offer WebSockets over HTTP/2: start %s again: %w", self, syscall.Exec(self, os.Args, env))
}
