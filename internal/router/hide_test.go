package router

import (
	"net/http"
	"slices"
	"testing"
)

func TestTheConsolesCookieIsHiddenFromApps(t *testing.T) {
	for _, c := range []struct{ have, want []string }{
		{[]string{"a=1; b=2"}, []string{"a=1; b=2"}},
		{[]string{"a=1; holdfast_console=x; b=2"}, []string{"a=1; b=2"}},
		{[]string{"holdfast_console=x"}, nil},
		{[]string{"holdfast_console=x;a=1", "b=2;  holdfast_console = y"}, []string{"a=1", "b=2"}},
		{[]string{"not_holdfast_console=x"}, []string{"not_holdfast_console=x"}},
	} {
		h := http.Header{"Cookie": c.have}
		hideCookie(h, c.have, consoleCookie)
		if !slices.Equal(h["Cookie"], c.want) {
			t.Errorf("%q became %q, want %q", c.have, h["Cookie"], c.want)
		}
	}
}
