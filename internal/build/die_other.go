//go:build !linux

package build

import "syscall"

// dieWithUs does nothing where the kernel offers nothing: a command of a build
// whose Holdfast is killed ends by itself, and what it made does not count.
func dieWithUs(*syscall.SysProcAttr) {}
