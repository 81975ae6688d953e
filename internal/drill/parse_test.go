package drill

import (
	"errors"
	"strings"
	"testing"
	"time"

	"holdfast/internal/app"
)

func TestParseProbe(t *testing.T) {
	for text, want := range map[string]Probe{
		"ws:/ws":                     {Kind: "ws", Path: "/ws"},
		"ws:/ws,echo,every=50ms":     {Kind: "ws", Path: "/ws", Echo: true, Every: 50 * time.Millisecond},
		"poll:/socket.io/,upgrade":   {Kind: "poll", Path: "/socket.io/", Upgrade: true},
		"poll:/a?x=1,cookies=half":   {Kind: "poll", Path: "/a?x=1", Cookies: "half"},
		"http:/,cookies=no":          {Kind: "http", Path: "/", Cookies: "no"},
		"sse:/events,patience=1m30s": {Kind: "sse", Path: "/events", Patience: 90 * time.Second},
	} {
		if want.Every == 0 {
			want.Every = everyDefault
		}
		if want.Patience == 0 {
			want.Patience = patienceDefault
		}
		if want.Cookies == "" {
			want.Cookies = "yes"
		}
		if got, err := ParseProbe(text); err != nil || got != want {
			t.Errorf("ParseProbe(%q) = %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "/ws", "ws", "ws:", "ws:ws", "ftp:/", "ws:/a b", "ws:/a#b", "ws:/,upgrade", "poll:/,echo", "http:/,cookies=maybe",
		"http:/,every=0s", "http:/,every=fast", "http:/,every", "http:/,patience=-1s", "http:/,"} {
		if got, err := ParseProbe(text); !errors.Is(err, app.ErrInvalid) {
			t.Errorf("ParseProbe(%q) = %+v, %v, want it refused", text, got, err)
		}
	}
}

func TestParseExpect(t *testing.T) {
	e, err := ParseExpect("errors=0, reconnect=3s,p50=500ms,lost=2,doubled=1,uneven=25%")
	if err != nil || *e.Errors != 0 || *e.Recover != 3*time.Second || *e.Median != 500*time.Millisecond || *e.Lost != 2 || *e.Doubled != 1 || *e.Evenness != 0.25 {
		t.Errorf("ParseExpect = %+v, %v", e, err)
	}
	if e, err := ParseExpect(""); err != nil || e != (Expect{}) {
		t.Errorf("nothing expected: %+v, %v", e, err)
	}
	for _, text := range []string{"errors", "errors=-1", "errors=x", "error=0", "reconnect=3", "reconnect=-1s", "uneven=", "uneven=-5%", "errors=0,"} {
		if e, err := ParseExpect(text); !errors.Is(err, app.ErrInvalid) {
			t.Errorf("ParseExpect(%q) = %+v, %v, want it refused", text, e, err)
		}
	}
}

// What is written is read as the same again.
func FuzzParseProbe(f *testing.F) {
	for _, s := range []string{"ws:/ws,echo", "poll:/socket.io/?a=b,upgrade,cookies=no", "http:/", "sse:/,every=1s"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParseProbe(text)
		if err != nil {
			return
		}
		if !strings.HasPrefix(p.Path, "/") || p.Every < everyLeast || p.Patience < everyLeast {
			t.Errorf("%q is %+v", text, p)
		}
		again, err := ParseProbe(p.String())
		again.Every, again.Patience = p.Every, p.Patience // which String leaves out
		if err != nil || again != p {
			t.Errorf("%q is written %q and read %+v, %v", text, p, again, err)
		}
	})
}

func FuzzParseExpect(f *testing.F) {
	f.Add("errors=0,reconnect=3s")
	f.Add("uneven=1e300%")
	f.Fuzz(func(t *testing.T, text string) {
		if e, err := ParseExpect(text); err == nil && e.Evenness != nil && !(*e.Evenness >= 0) {
			t.Errorf("%q: %v", text, *e.Evenness)
		}
	})
}
