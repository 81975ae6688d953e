package router

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/app"
)

// affinityCookie pins a client to an instance; App Engine's front end uses the
// same name. Its value is our own: sealed, so that it tells a client nothing
// and cannot be made up, and bound to one version, so that it steers nowhere
// else.
const affinityCookie = "GAESA"

const (
	// cookieLife is how long a cookie counts, as App Engine's.
	cookieLife = 30 * 24 * time.Hour
	// cookieRefresh is the age at which a client that is still there gets a
	// new one, so that nobody who comes back daily loses it on day 30.
	cookieRefresh = cookieLife / 2
	// cookieSkew is how far ahead another router's clock may be.
	cookieSkew = 5 * time.Minute
	// cookieBytes bounds a value before it is decoded; ours have about 100.
	cookieBytes = 512
	// cookieTries bounds how many cookies of one name are looked at: a browser
	// sends two when somebody set another path, a stranger sends hundreds.
	cookieTries = 4

	sessionBytes = 16
)

// session is what an affinity cookie says.
type session struct {
	id       [sessionBytes]byte // random; decides where the client goes when the instance is gone
	instance string
	issued   time.Time // whole seconds
}

// newSession is a client's first.
func newSession() session {
	var s session
	rand.Read(s.id[:]) // never fails (crypto/rand)
	return s
}

// sealer makes and opens cookie values. Safe for concurrent use.
type sealer struct{ aead cipher.AEAD }

func newSealer(secret []byte) (sealer, error) {
	// Derived, so that the secret may serve other purposes too.
	key, err := hkdf.Key(sha256.New, secret, nil, "holdfast affinity cookie 1", 32)
	if err != nil {
		return sealer{}, fmt.Errorf("affinity key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return sealer{}, fmt.Errorf("affinity key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return sealer{}, fmt.Errorf("affinity key: %w", err)
	}
	return sealer{aead}, nil
}

// newSalt makes of the secret what strangers must not know of how clients are
// placed.
func newSalt(secret []byte) (salt [sessionBytes]byte) {
	key, err := hkdf.Key(sha256.New, secret, nil, "holdfast placement 1", sessionBytes)
	if err != nil {
		panic(err) // 16 bytes are never too many
	}
	copy(salt[:], key)
	return salt
}

// seal makes the value: base64url of nonce, sealed issue time, session id and
// instance id, and tag.
func (s sealer) seal(k app.Key, ses session) string {
	plain := make([]byte, 0, 8+sessionBytes+len(ses.instance))
	plain = binary.BigEndian.AppendUint64(plain, uint64(ses.issued.Unix()))
	plain = append(plain, ses.id[:]...)
	plain = append(plain, ses.instance...)
	return base64.RawURLEncoding.EncodeToString(s.aead.Seal(nil, nil, plain, []byte(k.String())))
}

// open reads a value. ok is false for what we did not make, made for another
// version, or made too long ago.
func (s sealer) open(k app.Key, value string, now time.Time) (ses session, ok bool) {
	if value == "" || len(value) > cookieBytes {
		return session{}, false
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(value)
	if err != nil {
		return session{}, false
	}
	plain, err := s.aead.Open(nil, nil, sealed, []byte(k.String()))
	if err != nil || len(plain) <= 8+sessionBytes {
		return session{}, false
	}
	ses.issued = time.Unix(int64(binary.BigEndian.Uint64(plain)), 0)
	copy(ses.id[:], plain[8:])
	ses.instance = string(plain[8+sessionBytes:])
	age := now.Sub(ses.issued)
	return ses, age < cookieLife && age > -cookieSkew
}

// eachCookie calls fn with the values of the cookies of that name in Cookie
// header lines until fn says true, for no more than cookieTries of them.
// Written out because http.Request.CookiesNamed parses and allocates them all.
func eachCookie(lines []string, name string, fn func(value string) bool) {
	tries := 0
	for _, line := range lines {
		for line != "" {
			var pair string
			pair, line, _ = strings.Cut(line, ";")
			key, value, ok := strings.Cut(strings.Trim(pair, " \t"), "=")
			if !ok || key != name {
				continue
			}
			if tries++; tries > cookieTries || fn(strings.Trim(value, `"`)) {
				return
			}
		}
	}
}

// consoleCookie is auth.CookieName: a browser sends it to every port of a host,
// and apps have no business with the operator's session.
const consoleCookie = "holdfast_console"

// hideCookie takes the cookies of that name out of Cookie header lines, which are
// left as they are where there is none.
func hideCookie(h http.Header, lines []string, name string) {
	if !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, name) }) {
		return
	}
	var kept []string
	for _, line := range lines {
		pairs := slices.DeleteFunc(strings.Split(line, ";"), func(pair string) bool {
			key, _, _ := strings.Cut(strings.Trim(pair, " \t"), "=")
			return strings.TrimSpace(key) == name
		})
		if rest := strings.TrimSpace(strings.Join(pairs, ";")); rest != "" {
			kept = append(kept, rest)
		}
	}
	if h["Cookie"] = kept; len(kept) == 0 {
		delete(h, "Cookie")
	}
}

// cookieLine is a Set-Cookie value as the platform's cookies have it.
func cookieLine(name, value string, now time.Time, secure bool) string {
	var b strings.Builder
	b.WriteString(name + "=" + value)
	b.WriteString("; Path=/; Expires=" + now.Add(cookieLife).UTC().Format(http.TimeFormat))
	b.WriteString("; Max-Age=" + strconv.Itoa(int(cookieLife/time.Second)))
	if secure {
		b.WriteString("; Secure")
	}
	b.WriteString("; HttpOnly; SameSite=Lax")
	return b.String()
}

// dropPlatformCookies takes the app's own Set-Cookie of the platform's cookies out
// of an answer: these names are the platform's, also for versions that do not use
// them, because others of the same host may.
func dropPlatformCookies(h http.Header) {
	if h["Set-Cookie"] != nil {
		dropCookie(h, affinityCookie)
		dropCookie(h, splitCookie)
	}
}

// dropCookie takes every Set-Cookie of that name out of an answer.
func dropCookie(h http.Header, name string) {
	all := h["Set-Cookie"]
	kept := all[:0]
	for _, line := range all {
		pair, _, _ := strings.Cut(line, ";")
		key, _, _ := strings.Cut(pair, "=")
		if strings.Trim(key, " \t") != name {
			kept = append(kept, line)
		}
	}
	if len(kept) == 0 {
		delete(h, "Set-Cookie")
	} else {
		h["Set-Cookie"] = kept
	}
}

// shareable tells whether a shared cache may keep an answer, so that a cookie
// in it could reach strangers (RFC 9111, 3), and whether the answer leaves that
// open, so that saying "private" settles it without taking anything away.
//
//   - no-store or an unqualified private: nobody else keeps it.
//   - public, s-maxage, max-age, Expires, or a field for caches near the origin
//     (RFC 9213): the app wants it kept. A max-age of 0 counts too: it may be
//     kept and asked about again.
//   - 304 updates what a cache keeps already (RFC 9111, 4.3.4).
//   - Last-Modified and nothing else: mostly a file, and caches keep those by
//     heuristics (4.2.2). It stays shareable: the client gets its cookie with
//     the next page or call, and the file stays cacheable.
//   - an ETag and nothing else, or no-cache: frameworks put tags on every page
//     they render, and without the cookie on pages there would be no affinity
//     for their apps. It counts as open, and "private" is said.
func shareable(status int, h http.Header) (keep, open bool) {
	if status == http.StatusNotModified {
		return true, false
	}
	explicit := false
	for _, line := range h["Cache-Control"] {
		for line != "" {
			var d string
			d, line = directive(line)
			switch name, _, qualified := strings.Cut(d, "="); {
			case strings.EqualFold(name, "no-store"), strings.EqualFold(name, "private") && !qualified:
				return false, false
			case strings.EqualFold(name, "public"), strings.EqualFold(name, "s-maxage"), strings.EqualFold(name, "max-age"),
				strings.EqualFold(name, "immutable"):
				explicit = true
			}
		}
	}
	if explicit || h["Expires"] != nil || h["Last-Modified"] != nil || h["Cdn-Cache-Control"] != nil || h["Surrogate-Control"] != nil {
		return true, false
	}
	return false, true
}

// directive takes the first of a list of directives, minding commas in quotes
// (RFC 9110, 5.6.1 and 5.6.4).
func directive(line string) (first, rest string) {
	quoted := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			return strings.Trim(line[:i], " \t"), line[i+1:]
		}
	}
	return strings.Trim(line, " \t"), ""
}
