package store

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"maps"
	"os"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// FuzzRecord: what is read from a stored record is what is written again.
func FuzzRecord(f *testing.F) {
	r, err := everything(f).records()
	if err != nil {
		f.Fatal(err)
	}
	for i, value := range r {
		f.Add(i.bucket, i.key, sealed(i, value))
	}
	f.Fuzz(func(t *testing.T, bucket, key string, stored []byte) {
		i := id{bucket, key}
		if value, err := unseal(i, stored); err == nil && !bytes.Equal(sealed(i, value), stored) {
			t.Fatalf("%s: %q is believed and not what would be written", i, stored)
		}
		w, err := records{i: stored}.wishes()
		if err != nil {
			return
		}
		again, err := w.records()
		if err != nil || len(again) != 1 {
			t.Fatalf("%s: %q is read as %+v, which is %d records (%v)", i, stored, w, len(again), err)
		}
		twice, err := again.wishes()
		if err != nil {
			t.Fatalf("%s: %q cannot be read again: %v", i, again[i], err)
		}
		thrice, err := twice.records()
		if err != nil || !maps.EqualFunc(again, thrice, bytes.Equal) {
			t.Fatalf("%s: %q becomes %q (%v)", i, again[i], thrice[i], err)
		}
	})
}

// FuzzSnapshot: what is believed is whole, so it can be written again.
func FuzzSnapshot(f *testing.F) {
	r, err := everything(f).records()
	if err != nil {
		f.Fatal(err)
	}
	var b bytes.Buffer
	if err := r.snapshot(&b, 1); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	b.Reset()
	if err := (records{}).snapshot(&b, 1); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, text []byte) {
		w, err := ReadSnapshot(bytes.NewReader(text))
		if err != nil {
			return
		}
		s := Memory()
		if err := s.Replace(w); err != nil {
			t.Fatalf("%q is believed and refused: %v", text, err)
		}
	})
}

// FuzzImage: whatever pages of a file say, the reader ends; and what it believes
// of the pages, bbolt reads in the same way and can write to. The fuzzer changes
// bytes of a good file and sets the checksums of the meta pages right again, as
// otherwise it would not come past them.
func FuzzImage(f *testing.F) {
	var images [][]byte
	for _, records := range []int{0, 3, 400} {
		path := quickPlace(f)
		w := nothing()
		for n := range records {
			v := version(fmt.Sprintf("v%04d", n))
			v.Env["X"] = strings.Repeat("x", n*7%600)
			w.Versions[v.Key] = v
		}
		r, err := w.records()
		if err != nil {
			f.Fatal(err)
		}
		if err := build(path, r, 1); err != nil {
			f.Fatal(err)
		}
		images = append(images, read(f, path))
	}
	f.Add(uint8(0), uint32(4096*3+8), []byte{1})
	f.Add(uint8(1), uint32(16+16), []byte{5, 0})
	f.Add(uint8(2), uint32(4096*9+10), []byte{2, 0, 1, 0, 0, 0})
	f.Add(uint8(2), uint32(4096+16+40), []byte{200, 0})
	f.Fuzz(func(t *testing.T, which uint8, at uint32, change []byte) {
		b := bytes.Clone(images[int(which)%len(images)])
		copy(b[int(at)%len(b):], change)
		for page := 0; page < 2*os.Getpagesize(); page += os.Getpagesize() {
			h := fnv.New64a()
			m := b[page+pageHeader:]
			h.Write(m[:metaBytes-8])
			order.PutUint64(m[metaBytes-8:], h.Sum64())
		}
		im, err := readImage(b)
		if err != nil {
			return
		}
		path := quickPlace(t)
		if err := os.WriteFile(path, b, permFile); err != nil {
			t.Fatal(err)
		}
		db, _, err := openBolt(path)
		if err != nil {
			t.Fatalf("believed, and bbolt says %v", err)
		}
		defer db.Close()
		got := map[id][]byte{}
		if err := guarded(func() error {
			return db.Update(func(tx *bolt.Tx) error {
				err := tx.ForEach(func(name []byte, b *bolt.Bucket) error {
					return b.ForEach(func(k, v []byte) error {
						got[id{string(name), string(k)}] = bytes.Clone(v)
						return nil
					})
				})
				if err != nil {
					return err
				}
				if !maps.EqualFunc(got, im.stored, bytes.Equal) {
					return fmt.Errorf("bbolt reads %d records, we %d, or others", len(got), len(im.stored))
				}
				for i := range got {
					b := tx.Bucket([]byte(i.bucket))
					if err := b.Delete([]byte(i.key)); err != nil {
						return err
					}
					if err := b.Put([]byte(i.key+"+"), []byte("new")); err != nil {
						return err
					}
				}
				return nil
			})
		}); err != nil {
			t.Fatal(err)
		}
		now, err := readImage(read(t, path))
		if err != nil || len(now.stored) != len(got) {
			t.Fatalf("after a change: %d records of %d (%v)", len(now.stored), len(got), err)
		}
	})
}
