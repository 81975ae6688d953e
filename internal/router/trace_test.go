package router

import (
	"net/http"
	"strings"
	"testing"
)

const (
	aTrace = "105445aa7843bc8bf206b12000100000"
	aSpan  = "00f067aa0ba902b7"
)

// A client's trace is gone on with, whichever of the two headers names it, and
// what is not well-formed is as good as none.
func TestWhichTraceARequestBelongsTo(t *testing.T) {
	fresh := "01" + strings.Repeat("0", 30)
	for _, c := range []struct {
		name, parent, cloud string
		want                traced
	}{
		{"nothing", "", "", traced{id: fresh}},
		{"Google's", "", aTrace + "/18446744073709551615;o=1", traced{id: aTrace, parent: "ffffffffffffffff", options: "1", decided: true, sampled: true}},
		{"Google's, not sampled", "", aTrace + "/1;o=0", traced{id: aTrace, parent: "0000000000000001", options: "0", decided: true}},
		{"Google's in capitals, undecided", "", strings.ToUpper(aTrace) + "/0", traced{id: aTrace}},
		{"the standard's", "00-" + aTrace + "-" + aSpan + "-01", "", traced{id: aTrace, parent: aSpan, stated: true, decided: true, sampled: true}},
		{"the standard's, not sampled", "00-" + aTrace + "-" + aSpan + "-02", "", traced{id: aTrace, parent: aSpan, stated: true, decided: true}},
		{"of a version to come", "01-" + aTrace + "-" + aSpan + "-01-more", "", traced{id: aTrace, parent: aSpan, stated: true, decided: true, sampled: true}},
		{"both", "00-" + aTrace + "-" + aSpan + "-00", strings.Repeat("a", 32) + "/7;o=1", traced{id: aTrace, parent: aSpan, stated: true, decided: true}},
		{"a wrong one and Google's", "00-" + aTrace + "-" + aSpan, strings.Repeat("a", 32), traced{id: strings.Repeat("a", 32)}},
		{"too much behind version 00", "00-" + aTrace + "-" + aSpan + "-01-more", "", traced{id: fresh}},
		{"more without a dash", "01-" + aTrace + "-" + aSpan + "-01more", "", traced{id: fresh}},
		{"the version that is none", "ff-" + aTrace + "-" + aSpan + "-01", "", traced{id: fresh}},
		{"in capitals", "00-" + strings.ToUpper(aTrace) + "-" + aSpan + "-01", "", traced{id: fresh}},
		{"no trace", "00-" + strings.Repeat("0", 32) + "-" + aSpan + "-01", "", traced{id: fresh}},
		{"no span", "00-" + aTrace + "-" + strings.Repeat("0", 16) + "-01", "", traced{id: fresh}},
		{"a number that is too large", "", aTrace + "/18446744073709551616", traced{id: fresh}},
		{"options that nobody knows", "", aTrace + "/1;o=9", traced{id: fresh}},
	} {
		h := http.Header{}
		if c.parent != "" {
			h.Set("traceparent", c.parent)
		}
		if c.cloud != "" {
			h.Set("X-Cloud-Trace-Context", c.cloud)
		}
		if got := trace(h, [16]byte{1}); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
	twice := http.Header{traceParent: {"00-" + aTrace + "-" + aSpan + "-01", "00-" + aTrace + "-" + aSpan + "-01"}}
	if got := trace(twice, [16]byte{1}); got.id != fresh {
		t.Errorf("two of them: %+v", got)
	}
}

// Whoever has not decided is sampled by the trace's own number, so that everybody
// on its way would do the same.
func TestWhoIsSampled(t *testing.T) {
	for _, c := range []struct {
		id    string
		share float64
		want  bool
	}{
		{strings.Repeat("f", 32), 0.99, false}, {strings.Repeat("f", 16) + strings.Repeat("0", 16), 0.01, true},
		{"0000000000000001" + "7fffffffffffffff", 0.51, true}, {"0000000000000001" + "7fffffffffffffff", 0.49, false},
		{"0000000000000001" + "0000000000000000", 0, false},
	} {
		got := traced{id: c.id}
		if got.sample(c.share); got.sampled != c.want {
			t.Errorf("%s of %v: %v", c.id, c.share, got.sampled)
		}
	}
	client := traced{id: strings.Repeat("f", 32), decided: true, sampled: true}
	if client.sample(0); !client.sampled {
		t.Error("the client's wish is not heard")
	}
}

func FuzzTrace(f *testing.F) {
	for _, s := range []string{
		"", aTrace, aTrace + "/1;o=1", "105445AA7843bc8bf206b12000100000/", strings.Repeat("0", 32) + "/1", aTrace + "/18446744073709551616", aTrace + ";o=9",
		aTrace + "/1;o=1\r\nX: y", "00-" + aTrace + "-" + aSpan + "-01", "cc-" + aTrace + "-" + aSpan + "-01-x", "00-" + aTrace + "-" + aSpan + "-01\r\nX: y",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, name := range []string{traceHeader, traceParent} {
			got := trace(http.Header{name: {s}}, [16]byte{1})
			if len(got.id) != 32 || !lowerHex(got.id) || allZero(got.id) {
				t.Fatalf("%s: %q is of trace %q", name, s, got.id)
			}
			if got.parent != "" && (len(got.parent) != 16 || !lowerHex(got.parent)) {
				t.Fatalf("%s: %q has the parent %q", name, s, got.parent)
			}
			if ours := got.id == "01000000000000000000000000000000"; !ours && !strings.Contains(strings.ToLower(s), got.id) {
				t.Fatalf("%s: %q is of trace %q", name, s, got.id)
			}
			// What we say is understood, by us at least.
			for _, next := range []http.Header{{traceHeader: {got.cloud(7)}}, {traceParent: {got.w3c(7)}}} {
				if again := trace(next, [16]byte{2}); again.id != got.id || again.parent != "0000000000000007" || again.sampled != got.sampled {
					t.Fatalf("%s: %q is told as %v, which is %+v", name, s, next, again)
				}
			}
		}
	})
}
