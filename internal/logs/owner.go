package logs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"holdfast/internal/app"
)

// ownerSuffix names the small file beside a log that says which version wrote
// it: instances are gone before their logs are, and nobody else remembers. It
// goes with its log, see Prune.
const ownerSuffix = ".of"

// ownerMax bounds what is read of it, in bytes.
const ownerMax = 4 << 10

// Own notes that the log at path is written by an instance of k. The log need
// not exist yet.
func Own(path string, k app.Key) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	text, err := json.Marshal(k)
	if err != nil {
		panic(err) // plain strings
	}
	// Beside and renamed, so that nobody reads half of it. Not synced: what a
	// power cut takes with it is a filter's convenience.
	f, err := os.CreateTemp(filepath.Dir(path), ".of-") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it is renamed
	_, err = f.Write(append(text, '\n'))
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("note whose log %s is: %w", path, err)
	}
	return os.Rename(f.Name(), path+ownerSuffix)
}

// owner is who wrote the log at path; zero where nothing says so.
func owner(path string) (k app.Key) {
	f, err := os.Open(path + ownerSuffix)
	if err != nil {
		return k
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, ownerMax))
	if err != nil || json.Unmarshal(text, &k) != nil {
		return app.Key{}
	}
	return k
}
