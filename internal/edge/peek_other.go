//go:build !linux

package edge

import (
	"errors"
	"net"
	"time"
)

// canPeek: see peek.
const canPeek = false

// peek is not here: net/http serves every connection.
func peek(*net.TCPConn, []byte, time.Duration) (int, error) {
	return 0, errors.ErrUnsupported
}
