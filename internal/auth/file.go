package auth

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"holdfast/internal/app"
)

// namedBytesMax bounds the file of named tokens, in bytes: namedMax of them
// with room to spare.
const namedBytesMax = 1 << 20

// tokenRecord is a named token in its file.
type tokenRecord struct {
	Name    string    `json:"name"`
	Hash    string    `json:"sha256"`
	Role    Role      `json:"role,omitempty"` // "" is admin: there were no others once
	Created time.Time `json:"created"`
}

type tokenRecords struct {
	Tokens []tokenRecord `json:"tokens"`
}

// readPrivate reads a file of at most limit bytes that nobody but its owner may
// read. What was opened is what is looked at: a file that is exchanged
// meanwhile changes nothing.
func readPrivate(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a plain file: %w", path, app.ErrInvalid)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%s may be read or written by others (mode %#o): run chmod 600 %s, and if somebody may have seen it remove it, so that the server makes a new one when it starts: %w",
			path, mode, path, app.ErrInvalid)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is longer than %d bytes: %w", path, limit, app.ErrInvalid)
	}
	return data, nil
}

func readNamed(path string) ([]Named, error) {
	data, err := readPrivate(path, namedBytesMax)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var records tokenRecords
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&records); err != nil {
		return nil, fmt.Errorf("%s: %v; remove it to begin without named tokens: %w", path, err, app.ErrInvalid)
	}
	var named []Named
	for _, r := range records.Tokens {
		if sum, err := hex.DecodeString(r.Hash); err != nil || len(sum) != 32 || !possible.MatchString(r.Name) || r.Name == Owner {
			return nil, fmt.Errorf("%s: the token %q is damaged; remove it from the file: %w", path, r.Name, app.ErrInvalid)
		}
		if r.Role == "" {
			r.Role = Admin
		}
		if _, err := ParseRole(string(r.Role)); err != nil {
			return nil, fmt.Errorf("%s: the token %q: %w", path, r.Name, err)
		}
		named = append(named, Named(r))
	}
	slices.SortFunc(named, func(a, b Named) int { return byName(a, b.Name) })
	return named, nil
}

func writeNamed(path string, named []Named) error {
	records := tokenRecords{Tokens: []tokenRecord{}}
	for _, n := range named {
		records.Tokens = append(records.Tokens, tokenRecord(n))
	}
	data, err := json.MarshalIndent(records, "", "  ")
	if err != nil {
		return err
	}
	return write(path, append(data, '\n'))
}

// write writes a file beside its place, synced, and renames it there: a crash
// leaves the one before or the one after. It is 0600.
func write(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".token-") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it is renamed
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
