package googleapi

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"holdfast/internal/source"
)

// What gcloud uploads it names by its SHA-1; the source room keeps files by
// their SHA-256. The shelf is the index between the two: it says under which
// name of the one there is what has the name of the other. It holds no files,
// and a line that is lost costs one upload.

const (
	// objectsMax bounds the index; the oldest entries go first.
	objectsMax = 2 * source.FilesMax

	// objectMax bounds one upload in bytes; that is how large a whole app may be.
	objectMax = source.BytesMax

	// headBytes is how much of a file is looked at to see whether it is a program.
	headBytes = 4

	indexFile = "index"
)

// object is an uploaded file.
type object struct {
	sha1 string
	hash string // SHA-256
	size int64
	exec bool // it looks like a program: gcloud drops the modes of files
}

// line is an object in the index. The sum tells a damaged line.
func (o object) line() string {
	text := fmt.Sprintf("%s %s %d %t", o.sha1, o.hash, o.size, o.exec)
	return fmt.Sprintf("%s %08x\n", text, crc32.ChecksumIEEE([]byte(text)))
}

func parseObject(line string) (o object, ok bool) {
	i := strings.LastIndexByte(line, ' ')
	if i < 0 || fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(line[:i]))) != line[i+1:] {
		return o, false
	}
	f := strings.Split(line[:i], " ")
	if len(f) != 4 || !isSHA1(f[0]) {
		return o, false
	}
	size, err := strconv.ParseInt(f[2], 10, 64)
	return object{f[0], f[1], size, f[3] == "true"}, err == nil
}

func isSHA1(s string) bool {
	return len(s) == 2*sha1.Size && strings.Trim(s, "0123456789abcdef") == ""
}

// shelf keeps the index, and files while they arrive. All methods may be called
// from several goroutines.
type shelf struct {
	dir     string
	sources Sources

	mu       sync.Mutex // guards the following
	objects  map[string]object
	order    []string // of their arrival
	index    *os.File // lines are appended
	lines    int      // that the index has
	sessions map[string]*session
}

// openShelf opens the index in dir. Of the uploads that a former server did not
// finish those in pieces go on.
func openShelf(dir string, sources Sources) (*shelf, error) {
	s := &shelf{dir: dir, sources: sources, objects: map[string]object{}, sessions: map[string]*session{}}
	if err := errors.Join(os.RemoveAll(filepath.Join(dir, "new")), os.MkdirAll(filepath.Join(dir, "new"), 0o700)); err != nil {
		return nil, fmt.Errorf("open the staged uploads: %w", err)
	}
	if err := s.findSessions(); err != nil {
		return nil, fmt.Errorf("open the staged uploads: %w", err)
	}
	f, err := os.Open(filepath.Join(dir, indexFile))
	if err == nil {
		for scan := bufio.NewScanner(f); scan.Scan(); {
			if o, ok := parseObject(scan.Text()); ok {
				s.takeLocked(o)
			}
		}
		f.Close()
	}
	if err := s.rewriteLocked(); err != nil {
		return nil, fmt.Errorf("open the staged uploads: %w", err)
	}
	return s, nil
}

func (s *shelf) takeLocked(o object) {
	if _, known := s.objects[o.sha1]; !known {
		s.order = append(s.order, o.sha1)
	}
	s.objects[o.sha1] = o
}

// rewriteLocked writes the index anew, of what is known now.
func (s *shelf) rewriteLocked() error {
	s.order = slices.DeleteFunc(s.order, func(name string) bool { _, ok := s.objects[name]; return !ok })
	for len(s.order) > objectsMax {
		delete(s.objects, s.order[0])
		s.order = s.order[1:]
	}
	name := filepath.Join(s.dir, indexFile)
	f, err := os.CreateTemp(filepath.Join(s.dir, "new"), "index-")
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	for _, name := range s.order {
		w.WriteString(s.objects[name].line())
	}
	if err := errors.Join(w.Flush(), os.Rename(f.Name(), name)); err != nil {
		return errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	if s.index != nil {
		s.index.Close()
	}
	s.index, s.lines = f, len(s.order)
	return nil
}

// add notes an object that is in the sources now.
func (s *shelf) add(o object) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, known := s.objects[o.sha1]
	if s.takeLocked(o); known && old == o {
		return nil
	}
	if s.lines++; s.lines > 2*len(s.order)+1000 || len(s.order) > objectsMax {
		return s.rewriteLocked()
	}
	_, err := s.index.WriteString(o.line())
	return err
}

// find is the object of that name. Whether it is still there is for the sources
// to say.
func (s *shelf) find(name string) (object, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[name]
	return o, ok
}

// held lists what is there whole, by name, and sees that it stays for the
// deploy that asks. What is lost is forgotten.
func (s *shelf) held() ([]object, error) {
	s.mu.Lock()
	all := make([]object, 0, len(s.objects))
	for _, o := range s.objects {
		all = append(all, o)
	}
	s.mu.Unlock()
	slices.SortFunc(all, func(a, b object) int { return strings.Compare(a.sha1, b.sha1) })

	var held []object
	for from := 0; from < len(all); {
		// The sources answer for trees, which are bounded.
		var tree source.Tree
		to, bytes := from, int64(0)
		for ; to < len(all) && to-from < source.FilesMax && (to == from || bytes+all[to].size <= source.BytesMax); to++ {
			tree = append(tree, source.File{Path: all[to].sha1, Hash: all[to].hash, Size: all[to].size})
			bytes += all[to].size
		}
		missing, err := s.sources.Missing(tree)
		if err != nil {
			return nil, err
		}
		for _, o := range all[from:to] {
			if _, lost := slices.BinarySearch(missing, o.hash); !lost {
				held = append(held, o)
				continue
			}
			s.mu.Lock()
			delete(s.objects, o.sha1)
			s.mu.Unlock()
		}
		from = to
	}
	return held, nil
}

// arrival is a file that arrives: beside, with its sums.
type arrival struct {
	file   *os.File
	sha1   hash.Hash
	sha256 hash.Hash
	size   int64
	head   []byte
}

func (s *shelf) begin() (*arrival, error) {
	f, err := os.CreateTemp(filepath.Join(s.dir, "new"), "upload-")
	if err != nil {
		return nil, err
	}
	return newArrival(f), nil
}

// newArrival is what arrives in an empty file, or one that sums is given next.
func newArrival(f *os.File) *arrival {
	return &arrival{file: f, sha1: sha1.New(), sha256: sha256.New()}
}

// Write takes what came.
func (a *arrival) Write(p []byte) (int, error) {
	if a.size+int64(len(p)) > objectMax {
		return 0, refuse(413, "the upload is longer than %d bytes", int64(objectMax))
	}
	n, err := a.file.Write(p)
	sums{a}.Write(p[:n])
	return n, err
}

// sums takes note of what is in an arrival's file already.
type sums struct{ *arrival }

func (s sums) Write(p []byte) (int, error) {
	s.sha1.Write(p)
	s.sha256.Write(p)
	s.size += int64(len(p))
	if room := headBytes - len(s.head); room > 0 {
		s.head = append(s.head, p[:min(room, len(p))]...)
	}
	return len(p), nil
}

// drop gives up what came; it may follow keep.
func (a *arrival) drop() {
	a.file.Close()
	os.Remove(a.file.Name())
}

// keep has the sources keep what came, if it is what its name says.
func (s *shelf) keep(a *arrival, name string) (object, error) {
	if got := hex.EncodeToString(a.sha1.Sum(nil)); got != name {
		return object{}, wrong("name", "what came has the SHA-1 %s, not %s: it was damaged on its way, or saved meanwhile; deploy again", got, shown(name))
	}
	o := object{sha1: name, hash: hex.EncodeToString(a.sha256.Sum(nil)), size: a.size, exec: program(a.head)}
	if _, err := a.file.Seek(0, io.SeekStart); err != nil {
		return o, err
	}
	if err := s.sources.PutBlob(o.hash, a.file); err != nil {
		return o, err
	}
	return o, s.add(o)
}

// program says whether a file that begins like this is one that can be run: a
// script that names its interpreter, or a binary.
func program(head []byte) bool {
	return bytes.HasPrefix(head, []byte("#!")) || bytes.HasPrefix(head, []byte("\x7fELF"))
}
