package build

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"os"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"
)

// format is counted up whenever the same sources and settings are built into
// something else than before, so that old builds are not found any more.
const format = 1

// id names the build of files, read from root, with the job's settings: the same
// name for the same build, on this machine.
func (j *job) id(ctx context.Context, root *os.Root, files []file) (string, error) {
	sums := make([][sha256.Size]byte, len(files))
	g, ctx := errgroup.WithContext(ctx)
	workers := min(runtime.GOMAXPROCS(0), len(files))
	for w := range workers {
		g.Go(func() error {
			buf := make([]byte, 64<<10)
			for i := w; i < len(files); i += workers {
				if err := ctx.Err(); err != nil {
					return err
				}
				var err error
				if sums[i], err = sumFile(root, files[i], buf); err != nil {
					return fmt.Errorf("read %s: %w", files[i].path, err)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return "", errChanged
		}
		return "", err
	}

	h := summer{sha256.New()}
	h.number(format)
	h.text(runtime.GOOS, runtime.GOARCH)
	h.text(j.recipe.Runtime, j.recipe.Entrypoint)
	h.table(j.recipe.RuntimeConfig)
	h.table(j.recipe.Env)
	h.number(len(j.tools))
	for _, t := range j.tools {
		h.text(t.Name, t.Path, t.Version)
	}
	h.table(j.machine.decisive())
	h.number(len(files))
	for i, f := range files {
		kind := "file"
		switch {
		case f.link != "":
			kind = "link"
		case f.exec:
			kind = "exec"
		}
		h.text(f.path, kind, string(sums[i][:]))
	}
	return hex.EncodeToString(h.Sum(nil))[:idLength], nil
}

// sumFile hashes what a file holds, or where a symlink leads.
func sumFile(root *os.Root, f file, buf []byte) (sum [sha256.Size]byte, err error) {
	if f.link != "" {
		to, err := root.Readlink(f.path)
		if err != nil {
			return sum, err
		}
		return sha256.Sum256([]byte(to)), nil
	}
	r, err := openFile(root, f.path)
	if err != nil {
		return sum, err
	}
	defer r.Close()
	info, err := r.Stat()
	if err != nil {
		return sum, err
	}
	if (info.Mode()&0o100 != 0) != f.exec {
		return sum, errChanged
	}
	h := sha256.New()
	// The plain interface: a buffer of our own instead of one for each file.
	n, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{io.LimitReader(r, f.size+1)}, buf)
	if err != nil {
		return sum, err
	}
	if n != f.size {
		return sum, errChanged
	}
	h.Sum(sum[:0])
	return sum, nil
}

// summer writes values so that no two lists of values read the same.
type summer struct{ hash.Hash }

func (h summer) number(n int) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(n))
	h.Write(b[:])
}

func (h summer) text(all ...string) {
	for _, s := range all {
		h.number(len(s))
		io.WriteString(h, s)
	}
}

func (h summer) table(m map[string]string) {
	h.number(len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		h.text(k, m[k])
	}
}
