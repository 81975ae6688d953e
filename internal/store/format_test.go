package store

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"holdfast/internal/app"
)

var updateGolden = flag.Bool("update", false, "write the golden files anew, after a field was added")

// everything is Wishes with a value in each field of each type, so that none can
// be renamed in app without the golden files noticing.
func everything(t testing.TB) Wishes {
	w, n := nothing(), 0
	var a app.Application
	var s app.Service
	var v app.Version
	var o app.Operation
	for _, p := range []any{&a, &s, &v, &o} {
		setAll(reflect.ValueOf(p).Elem(), &n)
	}
	w.Apps[a.ID], w.Services[s.Key()], w.Versions[v.Key], w.Operations[o.ID] = a, s, v, o
	m := Memory()
	if err := m.Replace(w); err != nil {
		t.Fatal(err)
	}
	return m.Wishes()
}

// setAll gives v, and all within it, a value that is not zero and not another's.
func setAll(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprint("text ", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Float64:
		v.SetFloat(float64(*n) + 0.5)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		setAll(v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		setAll(v.Index(0), n)
		setAll(v.Index(1), n)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		setAll(key, n)
		setAll(value, n)
		v.SetMapIndex(key, value)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Date(2026, 11, 22, 12, 0, 0, *n, time.UTC)))
			return
		}
		if v.Type() == reflect.TypeFor[netip.Prefix]() {
			v.Set(reflect.ValueOf(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(*n), 0}), 24)))
			return
		}
		for i := range v.NumField() {
			setAll(v.Field(i), n)
		}
	default:
		panic("store: teach setAll about " + v.Type().String())
	}
}

const (
	goldenText = "testdata/format1.json" // a snapshot
	goldenFile = "testdata/format1.db"
)

// What was written by the Holdfast of format 1 is read by this one, and every
// field of today is in it.
func TestOldFilesStayReadable(t *testing.T) {
	t.Parallel()
	if old, err := os.ReadFile(goldenText); err == nil {
		if _, err := ReadSnapshot(bytes.NewReader(old)); err != nil {
			t.Fatalf("%v\n\nA field that was stored has another name, another type or is gone, so files of users cannot be read. Keep %s and %s\nas they are, and bring the former form to the new one with another upgrade in upgrades().", err, goldenText, goldenFile)
		}
	}
	want := everything(t)
	var now bytes.Buffer
	r, err := want.records()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.snapshot(&now, 1); err != nil {
		t.Fatal(err)
	}
	if *updateGolden {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(goldenText, now.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := build(goldenFile, r, 1); err != nil {
			t.Fatal(err)
		}
	}
	if old := read(t, goldenText); !bytes.Equal(old, now.Bytes()) {
		t.Fatalf("the stored form has changed; %s has\n%s\nand now it is\n%s\nIf fields were only added, so that old files still mean the same: go test ./internal/store -run OldFiles -update", goldenText, old, now.Bytes())
	}

	path := place(t)
	if err := os.WriteFile(path, read(t, goldenFile), permFile); err != nil {
		t.Fatal(err)
	}
	check(t, goldenFile, mustOpen(t, path).Wishes(), want)
	got, err := ReadSnapshot(bytes.NewReader(read(t, goldenText)))
	if err != nil {
		t.Fatal(err)
	}
	check(t, goldenText, got, want)
}

// Whatever field of a version is changed, in place of the former one, the change
// is noticed and kept.
func TestAChangeOfAnyFieldIsKept(t *testing.T) {
	t.Parallel()
	all := everything(t)
	s := Memory()
	if err := s.Replace(all); err != nil {
		t.Fatal(err)
	}
	for k, v := range all.Versions {
		n := 1000
		for i := range reflect.TypeOf(v).NumField() {
			name := reflect.TypeOf(v).Field(i).Name
			if name == "Key" {
				continue
			}
			changed := s.Wishes().Versions[k]
			field := reflect.ValueOf(&changed).Elem().Field(i)
			if field.Kind() == reflect.Bool {
				field.SetBool(!field.Bool())
			} else {
				setAll(field, &n)
			}
			woken := s.Changed()
			mustUpdate(t, s, func(w *Wishes) { w.Versions[k] = changed })
			select {
			case <-woken:
			default:
				t.Errorf("%s: the change was not noticed", name)
			}
			if got := s.Wishes().Versions[k]; !reflect.DeepEqual(got, changed) {
				t.Errorf("%s: kept %+v, want %+v", name, got, changed)
			}
		}
		woken := s.Changed()
		mustUpdate(t, s, func(w *Wishes) {
			same := w.Versions[k]
			same.Env = map[string]string{}
			for name, value := range w.Versions[k].Env {
				same.Env[name] = value
			}
			w.Versions[k] = same
		})
		select {
		case <-woken:
			t.Error("an equal value counts as a change")
		default:
		}
	}
}

// rename is an upgrade as there may be one: what was called Env is Environment.
func rename(from, to string) upgrade {
	return func(r records) (records, error) {
		for i, value := range r {
			if i.bucket == bucketVersions {
				r[i] = bytes.ReplaceAll(value, []byte(`"`+from+`":`), []byte(`"`+to+`":`))
			}
		}
		return r, nil
	}
}

// An older file is upgraded, its former self stays; a newer one is refused and not
// touched. The older format here is one whose versions have a "Variables" where
// ours have an "Env".
func TestOlderIsUpgradedAndNewerIsRefused(t *testing.T) {
	t.Parallel()
	path := place(t)
	want := nothing()
	want.Versions[version("v1").Key] = version("v1")
	r, err := want.records()
	if err != nil {
		t.Fatal(err)
	}
	if r, err = rename("Env", "Variables")(r); err != nil {
		t.Fatal(err)
	}
	if err := build(path, r, 1); err != nil {
		t.Fatal(err)
	}
	older := read(t, path)
	var text bytes.Buffer
	if err := r.snapshot(&text, 1); err != nil {
		t.Fatal(err)
	}
	olderText := bytes.Clone(text.Bytes())

	// A step that fails leaves everything as it was.
	no := errors.New("no")
	if _, err := open(path, Config{}, []upgrade{func(records) (records, error) { return nil, no }}); !errors.Is(err, no) {
		t.Fatalf("open is %v", err)
	}
	if !bytes.Equal(read(t, path), older) {
		t.Fatal("an upgrade that failed wrote to the file")
	}
	// Without the step its field is one that nobody knows, and nobody drops.
	if _, err := Open(path, Config{}); !errors.Is(err, app.ErrInvalid) || !strings.Contains(err.Error(), "Variables") {
		t.Fatalf("Open is %v, want app.ErrInvalid about Variables", err)
	}

	steps := []upgrade{rename("Variables", "Env")}
	for range 2 {
		s, err := open(path, Config{}, steps)
		if err != nil {
			t.Fatal(err)
		}
		check(t, "upgraded", s.Wishes(), want)
		s.Close()
	}
	if !bytes.Equal(read(t, path+".format1"), older) {
		t.Error("the copy is not the file as it was")
	}
	got, err := readSnapshot(&text, steps)
	if err != nil {
		t.Fatal(err)
	}
	check(t, "upgraded snapshot", got, want)

	newer := read(t, path) // of format 2 now
	_, err = Open(path, Config{})
	if !errors.Is(err, app.ErrInvalid) || !strings.Contains(err.Error(), "format 2") || !strings.Contains(err.Error(), path) {
		t.Errorf("a newer file: %v; want app.ErrInvalid, the file and its format", err)
	}
	if !bytes.Equal(read(t, path), newer) {
		t.Error("a newer file was written to")
	}
	if _, err = ReadSnapshot(bytes.NewReader(bytes.Replace(olderText, []byte(`"format":1`), []byte(`"format":2`), 1))); !errors.Is(err, app.ErrInvalid) {
		t.Errorf("a newer snapshot: %v, want app.ErrInvalid", err)
	}
}

// A file that was refused is replaced by a snapshot, and kept.
func TestRestoreInPlaceOfADamagedFile(t *testing.T) {
	t.Parallel()
	path := place(t)
	s := mustOpen(t, path)
	mustUpdate(t, s, func(w *Wishes) { w.Versions[version("v1").Key] = version("v1") })
	want := s.Wishes()
	var backup bytes.Buffer
	if err := s.Snapshot(&backup); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if err := os.Truncate(path, 10000); err != nil {
		t.Fatal(err)
	}
	damaged := read(t, path)
	_, err := Open(path, Config{})
	if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "holdfast restore") {
		t.Fatalf("Open is %v; want ErrDamaged, the file and the command that helps", err)
	}
	t.Log(err)
	w, err := ReadSnapshot(&backup)
	if err != nil {
		t.Fatal(err)
	}
	former, err := Restore(path, w, Config{})
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Dir(former) != filepath.Dir(path) || !bytes.Equal(read(t, former), damaged) {
		t.Errorf("the damaged file is not kept as %q", former)
	}
	check(t, "restored", mustOpen(t, path).Wishes(), want)
}

// What a crash while a file is made leaves behind does not matter.
func TestLeftoversOfACrash(t *testing.T) {
	t.Parallel()
	path := place(t)
	if err := os.WriteFile(path+".new", []byte("half"), permFile); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".lock", []byte("99999999\n"), permFile); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a new file, and one that is there
		mustOpen(t, path).Close()
		if _, err := os.Stat(path + ".new"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s.new is still there (%v)", path, err)
		}
		if err := os.WriteFile(path+".new", []byte("half"), permFile); err != nil {
			t.Fatal(err)
		}
	}
}

// A link is followed; one that leads nowhere is a disk that is not there, and no
// reason to begin with nothing.
func TestTheFileIsALink(t *testing.T) {
	t.Parallel()
	path, link := place(t), place(t)
	if err := os.Symlink(path, link); err != nil {
		t.Skipf("no links here: %v", err)
	}
	if _, err := Open(link, Config{}); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("Open of a link that leads nowhere is %v, want os.ErrNotExist", err)
	}
	mustOpen(t, path).Close()
	s := mustOpen(t, link)
	mustUpdate(t, s, func(w *Wishes) { w.Apps["shop"] = app.Application{ID: "shop"} })
	if _, err := Open(path, Config{}); !errors.Is(err, app.ErrBusy) {
		t.Errorf("Open by another name is %v, want app.ErrBusy", err)
	}
	want := s.Wishes()
	s.Close()
	if _, err := Restore(link, want, Config{}); err != nil {
		t.Fatal(err)
	}
	check(t, "restored through the link", mustOpen(t, path).Wishes(), want)
}

// Snapshots that are cut off or changed are refused.
func TestASnapshotThatIsNotWhole(t *testing.T) {
	t.Parallel()
	r, err := everything(t).records()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := r.snapshot(&b, 1); err != nil {
		t.Fatal(err)
	}
	whole := bytes.TrimSpace(b.Bytes())
	for n := 0; n < len(whole); n += 7 {
		if _, err := ReadSnapshot(bytes.NewReader(whole[:n])); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut to %d of %d bytes: %v, want ErrDamaged", n, len(whole), err)
		}
	}
	for _, change := range [][2]string{{"text", "next"}, {`"versions"`, `"services"`}, {"true", "null"}, {`"digest":"4 `, `"digest":"5 `}} {
		bad := strings.Replace(string(whole), change[0], change[1], 1)
		if _, err := ReadSnapshot(strings.NewReader(bad)); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s for %s: %v, want ErrDamaged", change[1], change[0], err)
		}
	}
	no := errors.New("no")
	if _, err := ReadSnapshot(readerThatFails{no}); !errors.Is(err, no) || errors.Is(err, ErrDamaged) {
		t.Errorf("a reader that fails: %v, want its error only", err)
	}
}

type readerThatFails struct{ err error }

func (r readerThatFails) Read([]byte) (int, error) { return 0, r.err }
