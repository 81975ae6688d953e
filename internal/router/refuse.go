package router

import (
	"fmt"
	"html/template"
	"net/http"
	"strings"
)

// retryAfter is what a 503 of ours asks for, in seconds: about what an
// instance needs to be replaced.
const retryAfter = "2"

// page is our own answer for people. It has no script, no link and nothing of
// the request in it but the id that we gave it.
var page = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{.Status}} {{.Title}}</title>
<style>
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:18vh auto 0;padding:0 1.5rem}
h1{font-size:1.4rem;margin:0 0 .5rem}p{margin:.5rem 0}small{opacity:.65}
</style>
<h1>{{.Title}}</h1>
<p>{{.Text}}</p>
<p><small>{{.Status}} · request {{.ID}}</small></p>
`))

// refuse answers in the app's place. Where an answer has begun already, it is
// cut off instead: the client must not take half an answer for a whole one.
func (x *exchange) refuse(status int, text string) {
	if x.err == nil {
		x.err = &refusal{status, text}
	}
	if x.w.status != 0 {
		panic(http.ErrAbortHandler)
	}
	h := x.w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	switch status {
	case http.StatusServiceUnavailable:
		h.Set("Retry-After", retryAfter)
	case http.StatusMethodNotAllowed:
		h.Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
	}
	unread := x.req.ContentLength != 0 && (x.body == nil || !x.body.done.Load())
	if unread && x.req.ProtoMajor == 1 {
		// Answer now: net/http would first read a body that may never come.
		http.NewResponseController(x.w).EnableFullDuplex()
	}
	if unread || x.r.closed.Load() {
		h.Set("Connection", "close")
	}
	title := http.StatusText(status)
	if acceptsHTML(x.req.Header["Accept"]) {
		h.Set("Content-Type", "text/html; charset=utf-8")
		x.w.WriteHeader(status)
		page.Execute(x.w, struct { // an error is the client's leaving
			Status          int
			Title, Text, ID string
		}{status, title, text, x.id})
		return
	}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	x.w.WriteHeader(status)
	fmt.Fprintf(x.w, "%d %s\n%s\nrequest %s\n", status, title, text, x.id)
}

// acceptsHTML tells a browser's navigation from a program that takes anything.
func acceptsHTML(accept []string) bool {
	for _, line := range accept {
		if strings.Contains(line, "text/html") {
			return true
		}
	}
	return false
}

// asterisk answers requests about the server as a whole: OPTIONS * is a ping
// (RFC 9110, 9.3.7), anything else has no meaning.
func (x *exchange) asterisk() {
	if x.req.Method != http.MethodOptions {
		x.refuse(http.StatusBadRequest, "Only OPTIONS can be asked of *.")
		return
	}
	x.w.Header().Set("Content-Length", "0")
	x.w.WriteHeader(http.StatusOK)
}
