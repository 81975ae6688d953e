package appyaml

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/app"
)

var update = flag.Bool("update", false, "rewrite testdata/*.want")

// TestGolden reads testdata/*.yaml and compares all that comes out with the
// .want beside it.
func TestGolden(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) < 10 {
		t.Fatalf("testdata/*.yaml: %d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := describe(Parse("app.yaml", data))
			want := strings.TrimSuffix(file, ".yaml") + ".want"
			if *update {
				if err := os.WriteFile(want, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			wanted, err := os.ReadFile(want)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(wanted) {
				t.Errorf("%s:\n--- got\n%s--- want\n%s", file, got, wanted)
			}
		})
	}
}

// describe prints what Parse returned.
func describe(v app.Version, warnings []Warning, err error) string {
	var b strings.Builder
	if err != nil {
		fmt.Fprintf(&b, "errors\n%v\n", err)
	}
	if len(warnings) > 0 {
		b.WriteString("warnings\n")
		for _, w := range warnings {
			fmt.Fprintln(&b, w)
		}
	}
	if err == nil {
		b.WriteString("version\n")
		show(&b, "", reflect.ValueOf(v))
	}
	return b.String()
}

// show prints every field of a value that is not zero, a line each.
func show(b *strings.Builder, name string, v reflect.Value) {
	switch {
	case v.Kind() == reflect.Slice && !v.IsNil() && v.Len() == 0:
		fmt.Fprintf(b, "%s = (empty)\n", name)
	case v.IsZero():
	case v.Type() == reflect.TypeFor[time.Duration]():
		fmt.Fprintf(b, "%s = %s\n", name, v.Interface())
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			show(b, strings.TrimPrefix(name+"."+v.Type().Field(i).Name, "."), v.Field(i))
		}
	case v.Kind() == reflect.Pointer:
		fmt.Fprintf(b, "%s = %v\n", name, v.Elem())
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			if e := v.Index(i); e.IsZero() {
				fmt.Fprintf(b, "%s[%d] = %#v\n", name, i, e)
			} else {
				show(b, fmt.Sprintf("%s[%d]", name, i), e)
			}
		}
	case v.Kind() == reflect.Map:
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, k := range keys {
			fmt.Fprintf(b, "%s[%s] = %#v\n", name, k, v.MapIndex(k))
		}
	case v.Kind() == reflect.String:
		fmt.Fprintf(b, "%s = %q\n", name, v)
	default:
		fmt.Fprintf(b, "%s = %v\n", name, v)
	}
}

func TestErrorsAreInvalid(t *testing.T) {
	t.Parallel()
	v, _, err := Parse("app.yaml", []byte("runtime: ada\nenv: standard\n"))
	var all Errors
	if !errors.As(err, &all) || len(all) != 2 || !errors.Is(err, app.ErrInvalid) {
		t.Errorf("Parse = %v, want two Errors that are app.ErrInvalid", err)
	}
	if !reflect.DeepEqual(v, app.Version{}) {
		t.Errorf("Parse = %+v beside errors, want zero", v)
	}
}
