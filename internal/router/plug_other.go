//go:build !linux

package router

import (
	"errors"
	"net"
)

// plug is not here: the straight way is for Linux.
func (r *Router) plug(string) (net.Conn, error) { return nil, errors.ErrUnsupported }
