package process

import "golang.org/x/sys/unix"

// startTime is when the process began, in microseconds of the epoch; 0 when it
// cannot be told.
func startTime(pid int) int64 {
	info, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil {
		return 0
	}
	t := info.Proc.P_starttime
	return int64(t.Sec)*1_000_000 + int64(t.Usec)
}
