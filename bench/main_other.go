//go:build !linux

// Command bench compares Holdfast with other proxies. It reads Linux's /proc
// and drives epoll, and does nothing elsewhere.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench: this needs Linux")
	os.Exit(1)
}
