package appyaml

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"holdfast/internal/app"
)

// TestDispatchGolden reads testdata/dispatch/*.yaml and compares the rules or
// the errors with the .want beside it.
func TestDispatchGolden(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/dispatch/*.yaml")
	if err != nil || len(files) < 10 {
		t.Fatalf("testdata/dispatch/*.yaml: %d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			rules, err := ParseDispatch("dispatch.yaml", data)
			if err != nil {
				fmt.Fprintf(&b, "errors\n%v\n", err)
			} else {
				fmt.Fprintf(&b, "%d rules\n", len(rules))
			}
			for _, r := range rules {
				fmt.Fprintf(&b, "%q %q -> %s\n", r.Host, r.Path, r.Service)
			}
			want := strings.TrimSuffix(file, ".yaml") + ".want"
			if *update {
				if err := os.WriteFile(want, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			wanted, err := os.ReadFile(want)
			if err != nil {
				t.Fatal(err)
			}
			if b.String() != string(wanted) {
				t.Errorf("%s:\n--- got\n%s--- want\n%s", file, b.String(), wanted)
			}
		})
	}
}

func TestCheckDispatch(t *testing.T) {
	t.Parallel()
	good := app.DispatchRule{Host: "*", Path: "/api/*", Service: "api"}
	services := []string{"default", "api"}
	for _, c := range []struct {
		rule  string
		rules []app.DispatchRule
		names []string
		want  string // in the error; "": none
	}{
		{"none", nil, nil, ""},
		{"services that exist", []app.DispatchRule{good, {Host: "a.b", Path: "/", Service: "default"}}, services, ""},
		{"a slip", []app.DispatchRule{good, {Host: "*", Path: "/", Service: "apy"}}, services, `rule 2 leads to service "apy", which does not exist: did you mean "api"?`},
		{"another service", []app.DispatchRule{{Host: "*", Path: "/", Service: "chat"}}, services, "deploy it first, or lead the rule to api or default"},
		{"no services", []app.DispatchRule{good}, nil, "there is no service yet"},
		{"bad host", []app.DispatchRule{{Host: "", Path: "/", Service: "api"}}, services, "rule 1"},
		{"bad path", []app.DispatchRule{{Host: "*", Path: "x", Service: "api"}}, services, "slash"},
		{"too many", make([]app.DispatchRule, maxRules+1), services, "at most 20"},
	} {
		err := CheckDispatch(c.rules, c.names)
		if (err == nil) != (c.want == "") || err != nil && (!errors.Is(err, app.ErrInvalid) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: CheckDispatch = %v, want %q", c.rule, err, c.want)
		}
	}
}

func TestDispatchLimits(t *testing.T) {
	t.Parallel()
	parse := func(url string) error {
		_, err := ParseDispatch("dispatch.yaml", []byte("dispatch: [{service: api, url: '"+url+"'}]"))
		return err
	}
	long := "*/" + strings.Repeat("x", maxURLBytes-2)
	for _, url := range []string{long, "*/", "*/*", "a/", "*a/", "*-a/", "*.a/", "*a.b/", "1.2.3/", "1.2.3.4.5/", "x.1.2.3.4/", "a.b-c.d/x*", "*//", "*/a//b", "*/ a"} {
		if err := parse(url); err != nil {
			t.Errorf("%s is refused: %v", url, err)
		}
	}
	for _, url := range []string{long + "x", "*", "", "/", "a", "a.*/", "*a-/", "*./", "*../", "a..b/", ".a/", "a./", "a-/", "a_b/", "*/**", "*/*a", "*/#", "999.1.1.1/", "http://a/"} {
		var all Errors
		if err := parse(url); !errors.As(err, &all) || len(all) != 1 || all[0].Line != 1 {
			t.Errorf("%s: want one error, got %v", url, err)
		}
	}
}

// FuzzParseDispatch: whatever the bytes, it ends soon and does not panic, its
// errors are safe to print, and what it accepts keeps every bound, so that
// CheckDispatch takes it.
func FuzzParseDispatch(f *testing.F) {
	files, err := filepath.Glob("testdata/dispatch/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatalf("testdata/dispatch/*.yaml: %d files, %v", len(files), err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	hosts := regexp.MustCompile(`^(\*[a-z0-9.-]*|[a-z0-9.-]+)$`)
	f.Fuzz(func(t *testing.T, data []byte) {
		start := time.Now()
		rules, err := ParseDispatch("dispatch.yaml", data)
		if took := time.Since(start); took > quick {
			t.Fatalf("ParseDispatch took %v for %d bytes", took, len(data))
		}
		checkPrintable(t, string(data), err, nil)
		if err != nil {
			var all Errors
			if rules != nil || !errors.As(err, &all) || len(all) == 0 || !errors.Is(err, app.ErrInvalid) {
				t.Errorf("%v, %v (%T): want Errors alone", rules, err, err)
			}
			return
		}
		var services []string
		for _, r := range rules {
			services = append(services, r.Service)
			if !hosts.MatchString(r.Host) || !strings.HasPrefix(r.Path, "/") || strings.Contains(strings.TrimSuffix(r.Path, "*"), "*") ||
				len(r.Host)+len(r.Path) > 100 || r.Service == "" || reflect.DeepEqual(r, app.DispatchRule{}) {
				t.Errorf("accepted %+v", r)
			}
		}
		if err := CheckDispatch(rules, services); err != nil || len(rules) > 20 {
			t.Errorf("%d rules were accepted, and then: %v", len(rules), err)
		}
	})
}
