//go:build !linux

package router

import "syscall"

// latePort is not known here: a port is bound before the other end is known.
func latePort(string, string, syscall.RawConn) error { return nil }
