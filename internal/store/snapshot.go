package store

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"holdfast/internal/app"
)

// A snapshot is text, a JSON object a line, so that it can be read without
// Holdfast, and by a Holdfast on another kind of machine:
//
//	{"snapshot":"holdfast","format":1}
//	{"bucket":"services","key":"shop\u0000default","value":{…}}
//	…
//	{"digest":"12 0a…"}
//
// The values are those of the file. The last line says how many there are and
// stands for all of them.

type snapshotHead struct {
	Snapshot string `json:"snapshot"`
	Format   int    `json:"format"`
}

type snapshotLine struct {
	Bucket string          `json:"bucket"`
	Key    string          `json:"key"`
	Value  json.RawMessage `json:"value"`
	Digest string          `json:"digest,omitempty"` // the last line has only this
}

const snapshotName = "holdfast"

// Snapshot writes all that holds at the call to w, whatever changes meanwhile; it
// holds up nobody, however slow w is. ReadSnapshot reads it. It does not read the
// file, so it works when that was damaged under us.
func (s *Store) Snapshot(w io.Writer) error {
	r, err := s.Wishes().records()
	if err != nil {
		return fmt.Errorf("write a snapshot: %w", err)
	}
	if err := r.snapshot(w, len(upgrades())+1); err != nil {
		return fmt.Errorf("write a snapshot: %w", err)
	}
	return nil
}

func (r records) snapshot(to io.Writer, format int) error {
	w := bufio.NewWriter(to)
	enc := json.NewEncoder(w)
	if err := enc.Encode(snapshotHead{snapshotName, format}); err != nil {
		return err
	}
	for _, i := range r.ids() {
		if err := enc.Encode(snapshotLine{Bucket: i.bucket, Key: i.key, Value: r[i]}); err != nil {
			return err
		}
	}
	if err := enc.Encode(struct {
		Digest string `json:"digest"`
	}{r.digest().String()}); err != nil {
		return err
	}
	return w.Flush()
}

// ReadSnapshot reads what Snapshot wrote; what follows that does not matter. One that
// is cut off or changed is ErrDamaged, one of a newer Holdfast app.ErrInvalid;
// an older one is upgraded on the way.
func ReadSnapshot(from io.Reader) (Wishes, error) {
	w, err := readSnapshot(from, upgrades())
	if err != nil {
		return Wishes{}, fmt.Errorf("read a snapshot: %w", err)
	}
	return w, nil
}

func readSnapshot(from io.Reader, ups []upgrade) (Wishes, error) {
	d := json.NewDecoder(bufio.NewReader(io.LimitReader(from, fileBytesMax)))
	var head snapshotHead
	if err := d.Decode(&head); err != nil {
		return Wishes{}, notJSON(err)
	}
	if head.Snapshot != snapshotName {
		return Wishes{}, fmt.Errorf("it does not begin as one: %w", ErrDamaged)
	}
	if newest := len(ups) + 1; head.Format < 1 || head.Format > newest {
		return Wishes{}, fmt.Errorf("it has format %d and this Holdfast knows 1 to %d: restore it with the one that wrote it: %w", head.Format, newest, app.ErrInvalid)
	}
	r := records{}
	for {
		var line snapshotLine
		if err := d.Decode(&line); err != nil {
			return Wishes{}, fmt.Errorf("after %d records: %w", len(r), notJSON(err))
		}
		if line.Digest != "" {
			if line.Digest != r.digest().String() {
				return Wishes{}, fmt.Errorf("its records are not those written together: %w", ErrDamaged)
			}
			return r.upgraded(head.Format, ups)
		}
		r[id{line.Bucket, line.Key}] = bytes.Clone(line.Value)
	}
}

// notJSON tells a snapshot that is wrong from one that could not be read.
func notJSON(err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("it is cut off: %w", ErrDamaged)
	case errors.As(err, &syntax), errors.As(err, &kind):
		return fmt.Errorf("%w: %w", err, ErrDamaged)
	}
	return err
}

// ids lists r's, in order.
func (r records) ids() []id {
	all := make([]id, 0, len(r))
	for i := range r {
		all = append(all, i)
	}
	slices.SortFunc(all, id.compare)
	return all
}
