package build

import "syscall"

// dieWithUs lets the kernel kill the command when we are killed.
func dieWithUs(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
