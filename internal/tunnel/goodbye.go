package tunnel

import (
	"crypto/rand"
	"encoding/binary"
	"strings"

	"holdfast/internal/app"
)

// Close codes that Holdfast sends (RFC 6455, 7.4.1 and IANA's registry).
const (
	codeGoingAway      = 1001
	codeProtocolError  = 1002
	codePolicy         = 1008
	codeTooBig         = 1009
	codeInternalError  = 1011
	codeServiceRestart = 1012
)

// CloseCode is the one list of what Holdfast says when it ends a socket. The
// reason that goes with the code is the cause itself, unless an operator gave
// other words.
func CloseCode(cause app.Cause) int {
	switch cause {
	case app.ShuttingDown:
		return codeGoingAway
	case app.Deadline:
		// Nothing restarts: only this connection has become too old, and its
		// client may be back at once. 1012 would ask it to wait 5 to 30 s first,
		// and 1000 tells many libraries not to come back at all.
		return codeGoingAway
	case app.Lost:
		// The connection to the instance broke and nobody knows why. 1014 (bad
		// gateway) would say it closer, but browsers and some libraries take
		// it for a protocol error.
		return codeInternalError
	case app.Broken:
		return codeProtocolError
	case app.TooMany:
		return codePolicy
	case app.TooBig:
		return codeTooBig
	default:
		// Deployed, scaled down, aged, unhealthy, crashed, requested: the
		// instance goes, another one is or will be there. Rebalanced: it is.
		return codeServiceRestart
	}
}

// closeFrame is a Close frame with the code and as much of the reason as fits.
// Towards an instance it is masked with an unpredictable key, as all that a
// client sends (RFC 6455, 5.3).
func closeFrame(code int, reason string, masked bool) []byte {
	reason = clipped(reason)
	f := make([]byte, 0, headerMax+2+len(reason))
	f = append(f, bitFIN|opClose, byte(2+len(reason)))
	if masked {
		f[1] |= bitMask
		f = append(f, 0, 0, 0, 0)
		rand.Read(f[2:6])
	}
	body := len(f)
	f = binary.BigEndian.AppendUint16(f, uint16(code))
	f = append(f, reason...)
	if masked {
		for i := range f[body:] {
			f[body+i] ^= f[2+i%4]
		}
	}
	return f
}

// clipped is as much of a reason as fits into a Close frame.
func clipped(reason string) string {
	if len(reason) > controlMax-2 {
		return strings.ToValidUTF8(reason[:controlMax-2], "")
	}
	return reason
}
