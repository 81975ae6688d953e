package process

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// makeDir makes a directory with exactly this mode and gives it to user.
func makeDir(path string, mode os.FileMode, user identity) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	if err := os.Chmod(path, mode); err != nil {
		return err
	}
	return user.own(path)
}

// copyTree copies the tree at from to the new directory to, for user to own.
// Modes and times stay (Python compares the times of its compiled files with
// those of their sources), bits that change the user do not. Links keep leading
// to the same place: those into the tree lead into the copy, and the only ones
// out of it are absolute ones to a program, as a virtual environment has to its
// interpreter. Others, and what is neither file, directory nor link, are
// refused: an instance must not reach past its copy by accident.
func copyTree(ctx context.Context, from, to string, user identity) error {
	from, err := filepath.EvalSymlinks(from)
	if err != nil {
		return err
	}
	if from, err = filepath.Abs(from); err != nil {
		return err
	}
	type made struct {
		path string
		info fs.FileInfo
	}
	var dirs []made // finished at the end: a read-only one cannot be filled
	err = filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case info.IsDir():
			dirs = append(dirs, made{target, info})
			return os.Mkdir(target, 0o700)
		case info.Mode().IsRegular():
			return copyFile(path, target, info, user)
		case info.Mode()&fs.ModeSymlink != 0:
			return copyLink(path, target, from, rel, user)
		}
		return fmt.Errorf("%s is neither a file, a directory nor a link", rel)
	})
	if err != nil {
		return err
	}
	for i := len(dirs) - 1; i >= 0; i-- {
		d := dirs[i]
		if err := finish(d.path, d.info, user); err != nil {
			return err
		}
	}
	// Whatever the build says, the app may write where it begins.
	return os.Chmod(to, dirs[0].info.Mode().Perm()|0o700)
}

// finish gives a copy its original's mode and times, and its owner. The owner
// comes first: changing it may clear mode bits.
func finish(path string, info fs.FileInfo, user identity) error {
	if err := user.own(path); err != nil {
		return err
	}
	if err := os.Chmod(path, info.Mode().Perm()); err != nil {
		return err
	}
	return os.Chtimes(path, time.Time{}, info.ModTime())
}

func copyFile(from, to string, info fs.FileInfo, user identity) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	// The kernel copies, and shares blocks where the file system can.
	_, err = io.Copy(out, in)
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return finish(to, info, user)
}

func copyLink(path, target, root, rel string, user identity) error {
	leads, err := os.Readlink(path)
	if err != nil {
		return err
	}
	within := func(p string) bool { return p == root || strings.HasPrefix(p, root+string(filepath.Separator)) }
	switch {
	case filepath.IsAbs(leads) && within(filepath.Clean(leads)):
		if leads, err = filepath.Rel(filepath.Dir(path), filepath.Clean(leads)); err != nil {
			return err
		}
	case filepath.IsAbs(leads):
		info, err := os.Stat(leads)
		if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
			return fmt.Errorf("the link %s leads out of the app, to %s: copy what it leads to", rel, leads)
		}
	case !within(filepath.Join(filepath.Dir(path), leads)):
		return fmt.Errorf("the link %s leads out of the app, to %s: copy what it leads to", rel, leads)
	}
	if err := os.Symlink(leads, target); err != nil {
		return err
	}
	// A link's own time is of no use to anybody; its owner is, in sticky places.
	if err := user.own(target); err != nil && err != unix.EOPNOTSUPP {
		return err
	}
	return nil
}
