package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What an app must not see is taken from it by Landlock (landlock(7)), which any
// process may do to itself and to what it becomes, and nobody can undo.
//
// Landlock knows what is allowed, below a directory and whole, and nothing of
// exceptions. So everything is allowed but the directories on the way to what is
// hidden: each of their entries is, for itself. What is made later beside such
// an entry is hidden too, until the app's next start, and the directories on the
// way cannot be listed. That is the price of exceptions.

// Rights by the version of Landlock that knows them. Reading a device's controls
// and the network are not ours to take.
const (
	rightsFile = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_READ_FILE

	rightsFirst = rightsFile | unix.LANDLOCK_ACCESS_FS_READ_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK | unix.LANDLOCK_ACCESS_FS_MAKE_SYM

	rightsRead = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR

	// Version 1 forbids what it does not know: renames from one directory into
	// another, which programs do all the time.
	versionMin      = 2
	versionTruncate = 3
	versionSignals  = 6

	// entriesMax bounds the entries of the directories on the way, one rule each.
	entriesMax = 10_000
)

// landlock is its version in this kernel; 0 if there is none, or if it is one that
// would be in the way.
func landlock() int {
	v, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 || v < versionMin {
		return 0
	}
	return int(v)
}

// CanConfine says whether this system can keep files from an app; see Config.Hidden.
func CanConfine() bool { return landlock() > 0 }

// confine takes from this thread, and from what it executes, everything below
// hidden but what is in write and, to read and execute, in read. It can then
// neither look into processes that are not its own nor, where the kernel knows
// how, send them signals. Paths are absolute. Where there is no Landlock nothing
// is taken.
func confine(hidden, read, write []string) error {
	version := landlock()
	if version == 0 || len(hidden) == 0 {
		return nil
	}
	all := uint64(rightsFirst | unix.LANDLOCK_ACCESS_FS_REFER)
	if version >= versionTruncate {
		all |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: all} // what a kernel does not know may be there, as long as it is zero
	if version >= versionSignals {
		attr.Scoped = unix.LANDLOCK_SCOPE_SIGNAL
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return fmt.Errorf("make its rules: %w", errno)
	}
	defer unix.Close(int(fd))
	r := rules{fd: int(fd), all: all}
	for _, h := range hidden {
		// As the kernel sees it: a link on the way is not the way. What is not
		// there yet is nowhere else either.
		if whole, err := filepath.EvalSymlinks(h); err == nil {
			h = whole
		}
		r.hidden = append(r.hidden, h)
	}
	if err := r.around("/"); err != nil {
		return err
	}
	for _, path := range read {
		if err := r.allow(path, rightsRead); err != nil {
			return err
		}
	}
	for _, path := range write {
		if err := r.allow(path, all); err != nil {
			return err
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("give up new privileges: %w", err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); errno != 0 {
		return fmt.Errorf("obey its rules: %w", errno)
	}
	return nil
}

type rules struct {
	fd     int
	all    uint64
	hidden []string
	count  int
}

// around allows what is in dir but what is hidden.
func (r *rules) around(dir string) error {
	way, hidden := r.meets(dir)
	if hidden {
		return nil
	}
	if !way {
		return r.allow(dir, r.all)
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrPermission) {
		return nil // who runs as us cannot look into it either
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Type()&os.ModeSymlink != 0 {
			continue // where it leads to has rules of its own
		}
		if err := r.around(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// meets says whether dir is on the way to something hidden, or is hidden.
func (r *rules) meets(dir string) (way, hidden bool) {
	for _, h := range r.hidden {
		if h == dir {
			return false, true
		}
		way = way || strings.HasPrefix(h, strings.TrimSuffix(dir, "/")+"/")
	}
	return way, false
}

// allow allows rights below path. What is not there needs none.
func (r *rules) allow(path string, rights uint64) error {
	if r.count++; r.count > entriesMax {
		return fmt.Errorf("more than %d entries in the folders above %s", entriesMax, strings.Join(r.hidden, " and "))
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EACCES) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("allow %s: %w", path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("allow %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		rights &= rightsFile | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(r.fd), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno == unix.EBADFD || errno == unix.EOPNOTSUPP {
		return nil // of a kind that has no rules, such as a pipe
	}
	if errno != 0 {
		return fmt.Errorf("allow %s: %w", path, errno)
	}
	return nil
}
