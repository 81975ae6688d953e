package edge

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// againVariable hands listeners to the same process after it has executed itself:
// its pid, and NAME:DESCRIPTOR for each. The descriptors are what they were, unlike
// those of socket activation, since number 3 and its neighbours are in use.
const againVariable = "HOLDFAST_LISTENERS"

// Again keeps listeners open over an execution of this program by itself, so that
// connections queue meanwhile.
type Again struct {
	files []*os.File
	names []string
}

// KeepOpen prepares that. The listeners may then be used and closed as before; what
// it returns is executed, or closed.
func KeepOpen(all []Handed) (*Again, error) {
	a := &Again{}
	for _, h := range all {
		l, ok := h.Listener.(interface{ File() (*os.File, error) })
		if !ok {
			a.Close()
			return nil, fmt.Errorf("keep %s open: it is no listener of the system's", h.Addr())
		}
		if u, ok := h.Listener.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false)
		}
		f, err := l.File()
		if err != nil {
			a.Close()
			return nil, fmt.Errorf("keep %s open: %w", h.Addr(), err)
		}
		a.files, a.names = append(a.files, f), append(a.names, h.Name)
	}
	return a, nil
}

// Exec makes this process the program at path, with those arguments and this
// environment. It returns only when that fails.
func (a *Again) Exec(path string, args []string) error {
	words := []string{strconv.Itoa(os.Getpid())}
	for i, f := range a.files {
		fd := f.Fd() // and blocking, which the next listener made of it is not
		if _, err := unix.FcntlInt(fd, unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("hand a listener over: %w", err)
		}
		words = append(words, fmt.Sprintf("%s:%d", a.names[i], fd))
	}
	env := append(os.Environ(), againVariable+"="+strings.Join(words, " "))
	return syscall.Exec(path, args, env)
}

// Close lets the listeners go.
func (a *Again) Close() {
	for _, f := range a.files {
		f.Close()
	}
}

// again returns the listeners that this process has handed to itself.
func again() ([]Handed, error) {
	words := strings.Fields(os.Getenv(againVariable))
	os.Unsetenv(againVariable) // fails for no name of this
	if len(words) == 0 || words[0] != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	var all []Handed
	for _, word := range words[1:] {
		name, number, _ := strings.Cut(word, ":")
		fd, err := strconv.Atoi(number)
		if err != nil || fd < 0 || len(all) == inheritedMax {
			return nil, fmt.Errorf("inherit listeners: %s has %q: want NAME:DESCRIPTOR", againVariable, word)
		}
		syscall.CloseOnExec(fd)
		l, err := inherit(fd)
		if err != nil {
			for _, l := range all {
				l.Close()
			}
			return nil, fmt.Errorf("inherit listener %s: %w", word, err)
		}
		all = append(all, Handed{l, name})
	}
	return all, nil
}
