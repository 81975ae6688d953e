package process

import (
	"errors"
	"fmt"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// finish ends what is left, saves the last lines and records the exit.
func (k *keeper) finish() {
	killed := k.killAll()
	drained := make(chan struct{})
	go func() { // ends with the outputs, or with us
		k.outputs.Wait()
		close(drained)
	}()
	select {
	case <-drained:
	case <-time.After(drainMax):
		k.say("somebody else still has the app's output open")
	}
	how := "killed by SIGKILL"
	if k.ended {
		how = exitText(k.status, outOfMemoryKills(k.spec.Groups), k.spec.MemoryMB)
	}
	if killed > 0 && !k.stopping {
		k.say(fmt.Sprintf("ended %d left over processes", killed))
	}
	k.say(how)
	k.log.Close()
	k.record(how)
	// Whoever holds the list removes them too, if we cannot.
	removeGroups(k.spec.Groups)
}

// exitText is how an app ended, for people. ooms is how often the kernel ended
// one of its processes for want of memory.
func exitText(s unix.WaitStatus, ooms, limitMB int) string {
	limit := fmt.Sprintf("(limit %d MB)", limitMB)
	// A shell or npm between the victim and us reports it as 128 + 9.
	if ooms > 0 && (s.Signaled() && s.Signal() == unix.SIGKILL || s.Exited() && s.ExitStatus() == 128+int(unix.SIGKILL)) {
		return "out of memory " + limit
	}
	text := "ended"
	switch {
	case s.Exited():
		text = "exit status " + strconv.Itoa(s.ExitStatus())
	case s.Signaled():
		text = "killed by " + signalName(s.Signal())
	}
	if ooms > 0 && !(s.Exited() && s.ExitStatus() == 0) {
		text += ", after a process of it ran out of memory " + limit
	}
	return text
}

func signalName(s syscall.Signal) string {
	if name := unix.SignalName(s); name != "" {
		return name
	}
	return "signal " + strconv.Itoa(int(s))
}

// reap takes leave of every child that has ended: the app, and orphans of its
// that became ours. It says whether there are children left.
func (k *keeper) reap() (left bool) {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil: // ECHILD
			return false
		case pid == 0:
			return true
		case pid == k.app && !k.ended:
			k.ended, k.status = true, status
		}
	}
}

// killAll ends every descendant, however far it moved away, and returns how
// many there were beside the app. On Linux all of them are our children in the
// end; elsewhere those that left the app's process group escape.
func (k *keeper) killAll() (beside int) {
	deadline := time.Now().Add(forceMax)
	seen := map[int]bool{k.app: true}
	for k.reap() && time.Now().Before(deadline) {
		killGroups(k.spec.Groups)
		if !k.ended {
			unix.Kill(-k.app, unix.SIGKILL)
		}
		for _, pid := range descendants() {
			seen[pid] = true
			unix.Kill(pid, unix.SIGKILL)
		}
		select {
		case <-k.children:
		case <-time.After(reapInterval):
		}
	}
	if !groupsKillMore {
		// Nobody of the group needs to be our child there.
		unix.Kill(-k.app, unix.SIGKILL)
	}
	return len(seen) - 1
}
