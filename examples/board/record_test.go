package main

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
)

func mustAdd(t *testing.T, l *record, update string) {
	t.Helper()
	if news, err := l.add([]byte(update)); !news || err != nil {
		t.Fatalf("add(%q) = %v, %v, want news", update, news, err)
	}
}

func TestAnUpdateIsKeptOnce(t *testing.T) {
	t.Parallel()
	var l record
	mustAdd(t, &l, "one")
	mustAdd(t, &l, "two")
	if news, err := l.add([]byte("one")); news || err != nil {
		t.Errorf("the second add = %v, %v, want no news", news, err)
	}
	if l.bytes != 6 || len(l.entries) != 2 {
		t.Errorf("%d bytes in %d entries, want 6 in 2", l.bytes, len(l.entries))
	}
	if got, want := l.whole('l'), []byte("l\x03one\x03two"); !bytes.Equal(got, want) {
		t.Errorf("whole = %q, want %q", got, want)
	}
}

func TestARecordHasBounds(t *testing.T) {
	t.Parallel()
	var many record
	for i := range entriesMax {
		mustAdd(t, &many, fmt.Sprint(i))
	}
	if _, err := many.add([]byte("one more")); !errors.Is(err, errFull) {
		t.Errorf("one more than %d updates: %v, want %v", entriesMax, err, errFull)
	}
	var big record
	for i := range logMax / updateMax {
		if _, err := big.add(bytes.Repeat([]byte{byte(i)}, updateMax)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := big.add([]byte("x")); !errors.Is(err, errFull) {
		t.Errorf("one more than %d bytes: %v, want %v", logMax, err, errFull)
	}
	if _, err := big.fold(bytes.Repeat([]byte("f"), 10), nil); !errors.Is(err, errFull) || len(big.entries) != logMax/updateMax {
		t.Errorf("a fold that does not fit: %v, and %d entries are left, want %v and all", err, len(big.entries), errFull)
	}
}

func TestAFoldTakesThePlaceOfWhatItCovers(t *testing.T) {
	t.Parallel()
	var l record
	mustAdd(t, &l, "one")
	mustAdd(t, &l, "two")
	covers := l.ids()
	mustAdd(t, &l, "three")
	if known, err := l.fold([]byte("one+two"), covers); !known || err != nil {
		t.Errorf("fold = %v, %v, want that all was known", known, err)
	}
	if got := string(l.whole('l')); got != "l\x05three\x07one+two" {
		t.Errorf("then whole = %q", got)
	}
	if l.bytes != len("three")+len("one+two") {
		t.Errorf("%d bytes are counted", l.bytes)
	}
	if known, _ := l.fold([]byte("again"), covers); known {
		t.Error("a fold of what is not there says that all was known")
	}
	mustAdd(t, &l, "one") // late, from a peer that had not heard
	if l.crowded() {
		t.Error("three updates are a crowd")
	}
	for i := range foldEntries {
		mustAdd(t, &l, fmt.Sprint(i))
	}
	if !l.crowded() {
		t.Errorf("%d updates are no crowd", foldEntries+3)
	}
}

// Whatever two records have, in whatever order, what each says to be missing
// makes them equal.
func TestRecordsAgreeByWhatIsMissing(t *testing.T) {
	t.Parallel()
	var a, b record
	for i := range 20 {
		if i%3 != 0 {
			mustAdd(t, &a, fmt.Sprint(i))
		}
		if j := 19 - i; j%2 != 0 {
			mustAdd(t, &b, fmt.Sprint(j))
		}
	}
	if a.digest() == b.digest() {
		t.Fatal("different records have one digest")
	}
	they, we := a.missing(b.ids())
	for _, update := range they {
		b.add(update)
	}
	for _, e := range b.entries {
		if slices.Contains(we, e.id) {
			a.add(e.update)
		}
	}
	if a.digest() != b.digest() || len(a.entries) != len(b.entries) {
		t.Errorf("after an exchange: %d and %d updates, digests %x and %x", len(a.entries), len(b.entries), a.digest(), b.digest())
	}
}
