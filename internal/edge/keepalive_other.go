//go:build !linux

package edge

import "syscall"

// keepAliveEach has net set each connection's keep-alive.
const keepAliveEach = probeIdle

// keepAliveAll has nothing to do: connections inherit nothing here for sure.
func keepAliveAll(string, string, syscall.RawConn) error { return nil }
