// Package e2e holds the end-to-end tests: the holdfast program as people run
// it, with real apps, real processes, real sockets and a real browser. It has
// no code of its own and imports no room; it knows the program's command line,
// what it prints, and HTTP. Start at TestMain and start.
package e2e
