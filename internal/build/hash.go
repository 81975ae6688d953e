package build

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"io"
	"maps"
	"runtime"
	"slices"

	"holdfast/internal/source"
)

// format is counted up whenever the same sources and settings are built into
// something else than before, so that old builds are not found any more.
const format = 2

// id names the build of a tree with the job's settings: the same name for the
// same build, on this machine.
func (j *job) id(t source.Tree) string {
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
	h.text(t.ID())
	return hex.EncodeToString(h.Sum(nil))[:idLength]
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
