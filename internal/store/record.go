package store

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
	"unsafe"

	"holdfast/internal/app"
)

// A record is one entry of one of Wishes' maps: a bucket, a key in it, and the
// value as JSON of its app type.
//
// The parts of a key are joined by a zero byte, which no part may contain. So
// keys are unambiguous, and sort as their parts do: by application, service and
// version; operations by time, as their ids do.
type id struct{ bucket, key string }

func (i id) String() string {
	return strings.TrimSuffix(i.bucket, "s") + " " + strings.ReplaceAll(i.key, "\x00", "/")
}

func (i id) compare(o id) int {
	return cmp.Or(strings.Compare(i.bucket, o.bucket), strings.Compare(i.key, o.key))
}

// records are all entries of a file or a snapshot, as JSON.
type records map[id][]byte

// The buckets of a file, one for each map of Wishes. A renamed one would make
// old files unreadable.
const (
	bucketApps       = "apps"
	bucketServices   = "services"
	bucketVersions   = "versions"
	bucketOperations = "operations"
)

// buckets lists them, in the order in which a file has them.
func buckets() []string {
	return []string{bucketApps, bucketOperations, bucketServices, bucketVersions}
}

// keyBytesMax bounds a key; bbolt takes 32 KiB, and names that long are a mistake.
const keyBytesMax = 4 << 10

func joinKey(parts ...string) (string, error) {
	for _, p := range parts {
		if p == "" || strings.ContainsRune(p, 0) || !utf8.ValidString(p) {
			return "", fmt.Errorf("a name in %q is empty or not plain text: %w", parts, app.ErrInvalid)
		}
	}
	key := strings.Join(parts, "\x00")
	if len(key) > keyBytesMax {
		return "", fmt.Errorf("a name of %d bytes is too long (at most %d): %w", len(key), keyBytesMax, app.ErrInvalid)
	}
	return key, nil
}

func appKey(k string) (string, error)             { return joinKey(k) }
func serviceKey(k app.ServiceKey) (string, error) { return joinKey(k.App, k.Service) }
func versionKey(k app.Key) (string, error)        { return joinKey(k.App, k.Service, k.Version) }
func operationKey(k string) (string, error)       { return joinKey(k) }

func appOf(a app.Application) string         { return a.ID }
func serviceOf(s app.Service) app.ServiceKey { return s.Key() }
func versionOf(v app.Version) app.Key        { return v.Key }
func operationOf(o app.Operation) string     { return o.ID }

// change is what a transaction does to one record.
type change struct {
	id
	value []byte // nil: the record goes
}

// since lists what makes before into w, in order of bucket and key, and brings
// w's changed values into the form that a file would give back. before is a
// former result, so its values have that form.
func (w *Wishes) since(before Wishes) ([]change, error) {
	var all []change
	err := errors.Join(
		differ(&all, bucketApps, before.Apps, &w.Apps, appKey, appOf),
		differ(&all, bucketServices, before.Services, &w.Services, serviceKey, serviceOf),
		differ(&all, bucketVersions, before.Versions, &w.Versions, versionKey, versionOf),
		differ(&all, bucketOperations, before.Operations, &w.Operations, operationKey, operationOf),
	)
	slices.SortFunc(all, func(a, b change) int { return a.compare(b.id) })
	return all, err
}

func differ[K comparable, V any](all *[]change, bucket string, before map[K]V, after *map[K]V, key func(K) (string, error), of func(V) K) error {
	if *after == nil {
		*after = map[K]V{}
	}
	for k, v := range *after {
		old, had := before[k]
		if had && untouched(&old, &v) {
			continue
		}
		name, err := key(k)
		if err != nil {
			return err
		}
		i := id{bucket, name}
		if of(v) != k {
			return fmt.Errorf("%s holds %v: %w", i, of(v), app.ErrInvalid)
		}
		value, kept, err := encode(v)
		if err != nil {
			return fmt.Errorf("%s: %w: %w", i, err, app.ErrInvalid)
		}
		if had {
			if was, _, err := encode(old); err == nil && bytes.Equal(was, value) {
				(*after)[k] = old
				continue
			}
		}
		(*after)[k] = kept
		*all = append(*all, change{i, value})
	}
	for k := range before {
		if _, has := (*after)[k]; has {
			continue
		}
		name, err := key(k)
		if err != nil {
			return err
		}
		*all = append(*all, change{id{bucket, name}, nil})
	}
	return nil
}

// untouched says that b is a plain copy of a: the same bits, so the same
// numbers and the same shared texts, maps and lists, which nobody writes to. It
// is what makes an Update of one among thousands cheap: comparing values field by
// field would cost more than the disk does. Different bits may still be equal.
func untouched[V any](a, b *V) bool {
	return bytes.Equal(
		unsafe.Slice((*byte)(unsafe.Pointer(a)), unsafe.Sizeof(*a)),
		unsafe.Slice((*byte)(unsafe.Pointer(b)), unsafe.Sizeof(*b)))
}

// encode is v as it is stored, and v as that will be read.
func encode[V any](v V) (value []byte, kept V, err error) {
	if value, err = json.Marshal(v); err != nil {
		return nil, kept, err
	}
	if kept, err = decode[V](value); err != nil {
		return nil, kept, err
	}
	// Once more: text that was not UTF-8 is, from here on.
	value, err = json.Marshal(kept)
	return value, kept, err
}

// decode reads a stored value. A field that it does not know is an error, as to
// drop it would be to lose it with the next change.
func decode[V any](value []byte) (v V, err error) {
	d := json.NewDecoder(bytes.NewReader(value))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		return v, err
	}
	if _, err := d.Token(); err != io.EOF {
		return v, errors.New("something follows the value")
	}
	return v, nil
}

// records are the whole of w, which must have come from a Store.
func (w Wishes) records() (records, error) {
	r := records{}
	err := errors.Join(
		put(r, bucketApps, w.Apps, appKey),
		put(r, bucketServices, w.Services, serviceKey),
		put(r, bucketVersions, w.Versions, versionKey),
		put(r, bucketOperations, w.Operations, operationKey),
	)
	return r, err
}

func put[K comparable, V any](r records, bucket string, from map[K]V, key func(K) (string, error)) error {
	for k, v := range from {
		name, err := key(k)
		if err != nil {
			return err
		}
		if r[id{bucket, name}], err = json.Marshal(v); err != nil {
			return err
		}
	}
	return nil
}

// wishes reads all of r.
func (r records) wishes() (Wishes, error) {
	w := nothing()
	for i, value := range r {
		var err error
		switch i.bucket {
		case bucketApps:
			err = take(i, value, w.Apps, appKey, appOf)
		case bucketServices:
			err = take(i, value, w.Services, serviceKey, serviceOf)
		case bucketVersions:
			err = take(i, value, w.Versions, versionKey, versionOf)
		case bucketOperations:
			err = take(i, value, w.Operations, operationKey, operationOf)
		default:
			err = fmt.Errorf("a record in %q, which this Holdfast does not know", i.bucket)
		}
		if err != nil {
			return Wishes{}, err
		}
	}
	return w, nil
}

func take[K comparable, V any](i id, value []byte, into map[K]V, key func(K) (string, error), of func(V) K) error {
	v, err := decode[V](value)
	if err != nil {
		return fmt.Errorf("%s: %w", i, err)
	}
	k := of(v)
	name, err := key(k)
	if err != nil {
		return fmt.Errorf("%s: %w", i, err)
	}
	if name != i.key {
		return fmt.Errorf("%s holds %v", i, k)
	}
	into[k] = v
	return nil
}

// sum is a record's checksum, over bucket, key and value, so that a value under
// another key is noticed.
type sum [sha256.Size]byte

func sumOf(i id, value []byte) (s sum) {
	h := sha256.New()
	var n [4]byte
	for _, part := range [][]byte{[]byte(i.bucket), []byte(i.key), value} {
		if len(part) > math.MaxUint32 {
			panic("store: a record of 4 GiB")
		}
		binary.BigEndian.PutUint32(n[:], uint32(len(part)))
		h.Write(n[:])
		h.Write(part)
	}
	h.Sum(s[:0])
	return s
}

// sealBytes of a record's checksum, in hex and followed by a blank, stand before
// its value in the file. The other half is left out for people's eyes; the digest
// has the whole.
const sealBytes = sha256.Size / 2

func sealed(i id, value []byte) []byte {
	s := sumOf(i, value)
	out := make([]byte, 0, 2*sealBytes+1+len(value))
	out = hex.AppendEncode(out, s[:sealBytes])
	out = append(out, ' ')
	return append(out, value...)
}

// unseal is the value in stored, if the checksum before it is right.
func unseal(i id, stored []byte) ([]byte, error) {
	if len(stored) <= 2*sealBytes {
		return nil, fmt.Errorf("%s is cut off", i)
	}
	value := stored[2*sealBytes+1:]
	if !bytes.Equal(sealed(i, value), stored) {
		return nil, fmt.Errorf("the checksum of %s is wrong", i)
	}
	return value, nil
}

// digest stands for a whole set of records, and is kept with them: records that
// are each right can still be too few, too many or too old.
type digest struct {
	count int
	sum   sum // of all their sums, by exclusive or, so that one can be exchanged
}

func (d *digest) add(s sum)    { d.count++; d.mix(s) }
func (d *digest) remove(s sum) { d.count--; d.mix(s) }

func (d *digest) mix(s sum) {
	for i := range s {
		d.sum[i] ^= s[i]
	}
}

func (r records) digest() (d digest) {
	for i, value := range r {
		d.add(sumOf(i, value))
	}
	return d
}

func (d digest) String() string { return fmt.Sprintf("%d %x", d.count, d.sum) }
