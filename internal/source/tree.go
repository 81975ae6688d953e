package source

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"holdfast/internal/app"
)

// What a tree may consist of at most. App Engine's own bounds are lower (10,000
// files, 32 MB each); these exist so that a wrong directory, such as /, and a
// hostile upload are refused in moments instead of filling the disk.
const (
	FilesMax = 100_000 // files and links
	BytesMax = 4 << 30 // of all files together
	DepthMax = 256     // directories in one path

	pathMax  = 2048        // bytes of a path: PATH_MAX (4096) less what stands before it
	nameMax  = 255         // bytes of one element of a path, the usual file system's bound
	linkMax  = 1024        // bytes of a link's target
	linksMax = 10_000      // links of one tree: each is followed when the tree is checked
	hopsMax  = 40          // links that one name may lead through, as in Linux
	stepsMax = 1000        // elements that one name may lead through
	formMax  = 32 << 20    // bytes of a tree's canonical form
	hashLen  = 2 * 256 / 8 // hex digits of a SHA-256
)

// File is one file or symlink of an app.
type File struct {
	Path string // relative, clean, slash-separated, UTF-8
	Hash string // SHA-256 of what it holds, in lower-case hex; "" for a link
	Size int64  // bytes; 0 for a link
	Exec bool   // its owner may execute it; no other mode bit matters
	Link string // where it leads, for a symlink; "" for a file
}

// Tree is an app: its files, sorted by path. Like gcloud's, it knows no
// directories but those that files are in.
type Tree []File

// Refusal says why something is no app that can be taken. It is an
// app.ErrInvalid.
type Refusal struct {
	What string // the cause
	Next string // the next step, "" when nobody knows one
}

func (r *Refusal) Error() string {
	if r.Next == "" {
		return r.What
	}
	return r.What + "; " + r.Next
}

// Is makes errors.Is(r, app.ErrInvalid) hold.
func (r *Refusal) Is(target error) bool { return target == app.ErrInvalid }

func refuse(next, format string, args ...any) error {
	return &Refusal{What: fmt.Sprintf(format, args...), Next: next}
}

// ID names the tree by everything that is in it: the SHA-256 of its canonical
// form, in hex.
func (t Tree) ID() string {
	sum := sha256.Sum256(t.encode())
	return hex.EncodeToString(sum[:])
}

// Bytes is the size of all files together.
func (t Tree) Bytes() int64 {
	var n int64
	for _, f := range t {
		n += f.Size
	}
	return n
}

// Check says whether the tree can be kept and checked out without harm, whoever
// made it: its paths are clean, in order and within the bounds, nothing lies
// below a file or a link, and no link leads out. Its error is a *Refusal.
func (t Tree) Check() error {
	form := len(formHead)
	sizes := make(map[string]int64, min(len(t), FilesMax)) // by hash
	for i, f := range t {
		if i > 0 && t[i-1].Path > f.Path {
			return refuse("", "the files are not sorted by path: %s comes after %s", shown(f.Path), shown(t[i-1].Path))
		}
		if f.Link == "" && !isHash(f.Hash) {
			return refuse("", "%s: %s is not a SHA-256 in lower-case hex", shown(f.Path), shown(f.Hash))
		}
		if size, ok := sizes[f.Hash]; ok && f.Link == "" && size != f.Size {
			return refuse("", "%s has %d bytes, and a file that holds the same has %d", shown(f.Path), f.Size, size)
		}
		sizes[f.Hash] = f.Size
		form += len(f.Path) + len(f.Link) + hashLen + 24
	}
	if form > formMax {
		return refuse("shorten the paths or leave files out in .gcloudignore", "the list of files takes more than %d MiB", formMax>>20)
	}
	return CheckFiles(t)
}

// CheckFiles is Check for files that have no hashes yet, in any order.
func CheckFiles(files []File) error {
	if len(files) > FilesMax {
		return refuse("", "there are more than %d files", FilesMax)
	}
	at := make(index, len(files))
	var bytes int64
	for i, f := range files {
		if err := f.check(); err != nil {
			return err
		}
		if _, ok := at[f.Path]; ok {
			return refuse("", "%s is there twice", shown(f.Path))
		}
		at[f.Path] = &files[i]
		// No overflow: both are below BytesMax.
		if bytes += f.Size; bytes > BytesMax {
			return refuse("", "the files have more than %d GiB", BytesMax>>30)
		}
	}
	links, seen := 0, "."
	for _, f := range files {
		parent := path.Dir(f.Path)
		for dir := parent; dir != "." && dir != seen; dir = path.Dir(dir) {
			if at[dir] != nil {
				return refuse("", "%s lies below %s, which is not a directory", shown(f.Path), shown(dir))
			}
		}
		seen = parent
		if f.Link == "" {
			continue
		}
		if links++; links > linksMax {
			return refuse("", "there are more than %d symlinks", linksMax)
		}
		if err := at.checkLink(f); err != nil {
			return err
		}
	}
	return nil
}

// check is what can be said about a file without knowing the others.
func (f File) check() error {
	const next = "rename it, or exclude it in .gcloudignore"
	switch name := path.Base(f.Path); {
	case f.Path == "." || !fs.ValidPath(f.Path) || !filepath.IsLocal(f.Path) || strings.Contains(f.Path, "\x00"):
		return refuse(next, "%s is not a clean path within the app, in UTF-8", strconv.Quote(f.Path))
	case len(f.Path) > pathMax:
		return refuse(next, "a path has more than %d bytes: %s", pathMax, shown(f.Path))
	case strings.Count(f.Path, "/") > DepthMax:
		return refuse(next, "%s is more than %d directories deep", shown(f.Path), DepthMax)
	case len(name) > nameMax || slices.ContainsFunc(strings.Split(f.Path, "/"), func(s string) bool { return len(s) > nameMax }):
		return refuse(next, "a name has more than %d bytes: %s", nameMax, shown(f.Path))
	case f.Size < 0 || f.Size > BytesMax:
		return refuse(next, "%s has more than %d GiB", shown(f.Path), BytesMax>>30)
	case f.Link == "":
		return nil
	case f.Hash != "" || f.Size != 0 || f.Exec:
		return refuse("", "%s is a symlink and a file in one", shown(f.Path))
	}
	return nil
}

// index finds a tree's files by path.
type index map[string]*File

const linkNext = "copy what it leads to, or exclude it in .gcloudignore"

// checkLink says whether a link leads nowhere but into the tree. One that leads
// to nothing is kept: what it names may be made by the build.
func (at index) checkLink(f File) error {
	switch {
	case path.IsAbs(f.Link) || filepath.IsAbs(f.Link):
		return refuse(linkNext, "the symlink %s leads to the absolute path %s", shown(f.Path), shown(f.Link))
	case len(f.Link) > linkMax || strings.Contains(f.Link, "\x00") || strings.ToValidUTF8(f.Link, "") != f.Link:
		return refuse(linkNext, "the symlink %s leads to what is no path of at most %d bytes in UTF-8", shown(f.Path), linkMax)
	}
	switch _, how := at.follow(f.Path); how {
	case outside:
		return refuse(linkNext, "the symlink %s leads out of the app, to %s", shown(f.Path), shown(f.Link))
	case endless:
		return refuse(linkNext, "the symlink %s leads to itself", shown(f.Path))
	}
	return nil
}

// How following a name ends.
type ending int

const (
	inside  ending = iota
	outside        // it leaves the tree
	endless        // it goes in a circle, or through more than anybody needs
)

// follow goes where name leads, through links, as the kernel would in a checkout.
// Elements that do not exist count as directories.
func (at index) follow(name string) (to string, how ending) {
	to = "."
	rest := strings.Split(name, "/")
	slices.Reverse(rest) // what comes next is last
	hops, steps := 0, 0
	for len(rest) > 0 {
		next := rest[len(rest)-1]
		rest = rest[:len(rest)-1]
		if steps++; steps > stepsMax {
			return "", endless
		}
		switch next {
		case "", ".":
			continue
		case "..":
			if to == "." {
				return "", outside
			}
			to = path.Dir(to)
			continue
		}
		if to == "." {
			to = next
		} else {
			to += "/" + next
		}
		f := at[to]
		if f == nil || f.Link == "" {
			continue
		}
		if hops++; hops > hopsMax {
			return "", endless
		}
		if path.IsAbs(f.Link) {
			return "", outside
		}
		to = path.Dir(to)
		more := strings.Split(f.Link, "/")
		slices.Reverse(more)
		rest = append(rest, more...)
	}
	return to, inside
}

// Find returns the file that name leads to, through links. The tree must have
// passed Check.
func (t Tree) Find(name string) (File, bool) {
	if i, ok := slices.BinarySearchFunc(t, name, func(f File, name string) int { return strings.Compare(f.Path, name) }); ok && t[i].Link == "" {
		return t[i], true
	}
	at := make(index, len(t))
	links := false
	for i := range t {
		at[t[i].Path] = &t[i]
		links = links || t[i].Link != ""
	}
	if !links {
		return File{}, false
	}
	to, how := at.follow(name)
	if f := at[to]; how == inside && f != nil {
		return *f, true
	}
	return File{}, false
}

func isHash(s string) bool {
	return len(s) == hashLen && strings.Trim(s, "0123456789abcdef") == ""
}

// shown is a path or a word as a person may see it on a terminal: as it is,
// unless it has what a terminal obeys.
func shown(s string) string {
	if strings.IndexFunc(s, unicode.IsControl) >= 0 || strings.ToValidUTF8(s, "") != s {
		s = strconv.Quote(s)
	}
	const most = 200
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}
