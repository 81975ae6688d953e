package server

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// secretBytes is the length of the key that affinity cookies are sealed with.
const secretBytes = 32

// openSecret reads the key at path, making it first if there is none. It is
// kept, so that clients find their instances again after a restart of ours.
func openSecret(path string) ([]byte, error) {
	secret, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return makeSecret(path)
	case err != nil:
		return nil, err
	case len(secret) != secretBytes:
		return nil, fmt.Errorf("%s has %d bytes instead of %d: remove it to have a new one made (clients lose their affinity once)",
			path, len(secret), secretBytes)
	}
	return secret, nil
}

// makeSecret writes a new key beside its place, synced, and renames it there:
// a crash leaves a whole key or none.
func makeSecret(path string) ([]byte, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	secret := make([]byte, secretBytes)
	rand.Read(secret)                                       // never fails: crypto/rand.Read
	f, err := os.CreateTemp(filepath.Dir(path), ".secret-") // 0600
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name()) // fails once it is renamed
	_, err = f.Write(secret)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, err
	}
	return secret, os.Rename(f.Name(), path)
}
