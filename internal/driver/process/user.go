package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// identity is who apps run as. Its zero value is who we are.
type identity struct {
	Name   string `json:"name"`
	UID    int    `json:"uid"`
	GID    int    `json:"gid"`
	Groups []int  `json:"groups"`
	Home   string `json:"home"`
}

// other says whether apps run as somebody else.
func (i identity) other() bool { return i.Name != "" }

// lookUp finds a user of this machine; "" is nobody else.
func lookUp(name string) (identity, error) {
	if name == "" {
		return identity{}, nil
	}
	if os.Geteuid() != 0 {
		return identity{}, fmt.Errorf("apps can run as user %s only if Holdfast runs as root: start it as root, or as %s without a user configured", name, name)
	}
	u, err := user.Lookup(name)
	if err != nil {
		return identity{}, fmt.Errorf("there is no user %s on this machine: create it, or configure another: %w", name, err)
	}
	i := identity{Name: u.Username, Home: u.HomeDir}
	if i.UID, err = strconv.Atoi(u.Uid); err != nil {
		return identity{}, fmt.Errorf("user %s: %w", name, err)
	}
	if i.GID, err = strconv.Atoi(u.Gid); err != nil {
		return identity{}, fmt.Errorf("user %s: %w", name, err)
	}
	ids, err := u.GroupIds()
	if err != nil {
		return identity{}, fmt.Errorf("groups of user %s: %w", name, err)
	}
	for _, id := range ids {
		if gid, err := strconv.Atoi(id); err == nil {
			i.Groups = append(i.Groups, gid)
		}
	}
	return i, nil
}

// become changes this process into i, for good.
func (i identity) become() error {
	if err := syscall.Setgroups(i.Groups); err != nil {
		return fmt.Errorf("set groups: %w", err)
	}
	if err := syscall.Setgid(i.GID); err != nil {
		return fmt.Errorf("set group %d: %w", i.GID, err)
	}
	if err := syscall.Setuid(i.UID); err != nil {
		return fmt.Errorf("set user %d: %w", i.UID, err)
	}
	return nil
}

// barrier returns the topmost directory on the way to dir, dir included, that
// the user cannot enter; "" when there is none. It reads permission bits, so
// that what access control lists add or take is only found by trying.
func (i identity) barrier(dir string) string {
	if !i.other() || i.UID == 0 {
		return ""
	}
	var way []string
	for d := dir; ; d = filepath.Dir(d) {
		way = append(way, d)
		if d == filepath.Dir(d) {
			break
		}
	}
	for _, d := range slices.Backward(way) {
		info, err := os.Stat(d)
		if errors.Is(err, fs.ErrNotExist) {
			return ""
		}
		if err != nil {
			return d
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			continue
		}
		bit := os.FileMode(0o001)
		switch {
		case int(st.Uid) == i.UID:
			bit = 0o100
		case int(st.Gid) == i.GID || slices.Contains(i.Groups, int(st.Gid)):
			bit = 0o010
		}
		if info.Mode()&bit == 0 {
			return d
		}
	}
	return ""
}

// own gives path, itself and not what it links to, to the user.
func (i identity) own(path string) error {
	if !i.other() {
		return nil
	}
	return os.Lchown(path, i.UID, i.GID)
}
