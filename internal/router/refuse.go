package router

import (
	"fmt"
	"html/template"
	"net/http"
	"strings"

	"holdfast/internal/app"
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

// Why a request gets no answer of the app's, or not all of it, besides
// shutting-down.
const (
	UnknownHost    app.Cause = "unknown-host"     // no application answers to the host name
	UseTLS         app.Cause = "use-tls"          // the client was led to HTTPS
	Barred         app.Cause = "firewall"         // a firewall rule keeps the client out
	BadRequest     app.Cause = "bad-request"      // it has no meaning here: a CONNECT that opens no WebSocket, or anything but OPTIONS of *
	BadHandshake   app.Cause = "bad-handshake"    // it breaks RFC 6455, or speaks another version
	BodyTooBig     app.Cause = "body-too-big"     // a body over what the version, or the server, allows
	BodyBroken     app.Cause = "body-broken"      // a body that could not be read to its end
	ForeignOrigin  app.Cause = "origin"           // a page that holdfast.allowed_origins does not name
	TooManySockets app.Cause = "too-many-sockets" // of this client, by holdfast.max_sockets_per_client
	Full           app.Cause = "full"             // as many sockets as this machine's descriptors carry
	AppFull        app.Cause = "app-full"         // as many requests and sockets as one app may have open
	Stopped        app.Cause = "stopped"          // the version has its share of traffic, and is stopped
	NotReady       app.Cause = "no-instance"      // no instance was ready in time
	NoConnection   app.Cause = "refused"          // instances were ready and took no connection
	Crowded        app.Cause = "crowded"          // too many requests wait for the service to be ready
	Slow           app.Cause = "slow"             // the app did not answer in time
	BadAnswer      app.Cause = "bad-answer"       // the app's answer was not valid, or was cut off
	ClientLeft     app.Cause = "client-left"      // the client did not wait for the answer
)

// refuse answers in the app's place, for cause. Where an answer has begun already, it is
// cut off instead: the client must not take half an answer for a whole one.
func (x *exchange) refuse(cause app.Cause, status int, text string) {
	x.why = cause
	if x.err == nil {
		x.err = &refusal{cause, status, text}
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
		x.refuse(BadRequest, http.StatusBadRequest, "Only OPTIONS can be asked of *.")
		return
	}
	x.w.Header().Set("Content-Length", "0")
	x.w.WriteHeader(http.StatusOK)
}
