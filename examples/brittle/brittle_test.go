package main

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

func visitor(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Jar: jar}
}

func visit(t *testing.T, c *http.Client, url string) (int, string) {
	t.Helper()
	res, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, strings.TrimSpace(string(body))
}

// It is as brittle as it says.
func TestBrittle(t *testing.T) {
	a := newApp(0)
	srv := httptest.NewServer(a.handler())
	defer srv.Close()
	c := visitor(t)
	for _, want := range []string{"visit 1", "visit 2"} {
		if status, got := visit(t, c, srv.URL); status != 200 || got != want {
			t.Errorf("%d %s, want %s", status, got, want)
		}
	}
	conn, _, err := websocket.Dial(t.Context(), srv.URL+"/ws", &websocket.DialOptions{HTTPClient: c})
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Write(t.Context(), websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, text, err := conn.Read(t.Context()); err != nil || string(text) != "hello" {
		t.Errorf("echo is %q, %v", text, err)
	}
	conn.Close(websocket.StatusNormalClosure, "")
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		status, _ := visit(t, c, srv.URL)
		if status == http.StatusForbidden {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d after its socket has ended, want 403", status)
		}
	}

	other := httptest.NewServer(newApp(time.Hour).handler())
	defer other.Close()
	if status, _ := visit(t, visitor(t), other.URL); status != http.StatusServiceUnavailable {
		t.Errorf("%d while it loads, want 503", status)
	}
}
