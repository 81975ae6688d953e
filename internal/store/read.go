package store

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"holdfast/internal/app"
)

// fileBytesMax bounds a file, which is read into memory as a whole. 1,000
// services of 3 versions take 8 MB.
const fileBytesMax = 512 << 20

// contents is what a file was found to hold, and to be right.
type contents struct {
	format  int
	records records
	digest  digest
	about   string // the digest as it is in the file
	settled bool
	size    int64
}

// readFile reads the file at path and believes nothing in it. It does not write.
// A format above the newest one is refused.
func readFile(path string, newest int) (contents, error) {
	b, err := readWhole(path)
	if err != nil {
		return contents{}, err
	}
	return readBytes(b, newest)
}

func readWhole(path string) ([]byte, error) {
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
		return nil, fmt.Errorf("it is not a file but %s: %w", info.Mode().Type(), app.ErrInvalid)
	}
	if info.Size() > fileBytesMax {
		return nil, fmt.Errorf("it has %d bytes, more than Holdfast writes: %w", info.Size(), ErrDamaged)
	}
	b := make([]byte, info.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, err
	}
	return b, nil
}

func readBytes(b []byte, newest int) (contents, error) {
	im, err := readImage(b)
	if err != nil {
		return contents{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	c := contents{settled: im.settled, size: im.size}
	about := func(key string) (string, error) {
		i := id{bucketFile, key}
		stored, has := im.stored[i]
		if !has {
			return "", fmt.Errorf("%w: it does not say its %s; is it Holdfast's?", ErrDamaged, key)
		}
		value, err := unseal(i, stored)
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		delete(im.stored, i)
		return string(value), nil
	}
	format, err := about(keyFormat)
	if err != nil {
		return contents{}, err
	}
	if c.format, err = checkFormat(format, newest); err != nil {
		return contents{}, err
	}
	if c.about, err = about(keyDigest); err != nil {
		return contents{}, err
	}
	c.records = make(records, len(im.stored))
	for i, stored := range im.stored {
		if c.records[i], err = unseal(i, stored); err != nil {
			return contents{}, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	c.digest = c.records.digest()
	if c.about != c.digest.in(int(im.txid)) && c.about != c.digest.in(int(im.txid)-1) {
		n, _, _ := strings.Cut(c.about, " ")
		return contents{}, fmt.Errorf("%w: its records are not those of its last transaction (%d of %s)", ErrDamaged, c.digest.count, n)
	}
	return c, nil
}

func checkFormat(text string, newest int) (int, error) {
	format, err := strconv.Atoi(text)
	if err != nil || format < 1 {
		return 0, fmt.Errorf("%w: its format is %q", ErrDamaged, text)
	}
	if format > newest {
		return 0, fmt.Errorf("it has format %d and this Holdfast knows up to %d: run the newer Holdfast that wrote it: %w", format, newest, app.ErrInvalid)
	}
	return format, nil
}
