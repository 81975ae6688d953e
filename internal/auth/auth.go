// Package auth knows who is calling: it keeps the bearer tokens that a server
// accepts. There is one that the server makes for whoever may read its data
// directory, and any number with names, for people and machines elsewhere. It
// knows roles, and nothing
// of what they are needed for. Start at Open, Who and Guard.
package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/app"
)

const (
	// tokenBytes is the randomness of a token: nobody guesses 256 bits, so that
	// failed attempts need no counting.
	tokenBytes = 32

	// prefix marks our tokens, so that scanners for leaked secrets know them.
	prefix = "holdfast_"

	// tokenMin is the least length of a token that somebody wrote into the file
	// by hand, tokenMax the most that is looked at of any, in bytes.
	tokenMin = 32
	tokenMax = 512

	// namedMax bounds the named tokens: each request is compared with all.
	namedMax = 1000

	tokenFile = "token"
	namedFile = "tokens.json"
)

// Owner is the name that Who gives for the server's own token.
const Owner = "owner"

// Named is a token that was given to somebody. Only its hash is kept.
type Named struct {
	Name    string
	Hash    string // SHA-256 of the token, in hex
	Role    Role
	Created time.Time
}

// Tokens are the tokens that a server accepts. All methods may be called from
// several goroutines.
type Tokens struct {
	dir string
	own [sha256.Size]byte

	changing sync.Mutex // held by Add and Remove, around mu: one change of the file at a time

	mu    sync.RWMutex // guards the following
	named []Named      // by name; replaced, not changed in place
}

// Open reads the tokens that are kept in dir. When there is none yet it makes
// the server's own: dir/token, readable for its owner only, one line of text.
// Files that others may read are refused with an error that says how to mend
// it, and so is a token that is too short to be one.
func Open(dir string) (*Tokens, error) {
	t := &Tokens{dir: dir}
	token, err := Read(filepath.Join(dir, tokenFile))
	if errors.Is(err, fs.ErrNotExist) {
		token = fresh()
		err = errors.Join(os.MkdirAll(dir, 0o700), write(filepath.Join(dir, tokenFile), []byte(token+"\n")))
	}
	if err != nil {
		return nil, err
	}
	t.own = sha256.Sum256([]byte(token))
	if t.named, err = readNamed(filepath.Join(dir, namedFile)); err != nil {
		return nil, err
	}
	return t, nil
}

// Path is where Open keeps the server's own token in dir.
func Path(dir string) string { return filepath.Join(dir, tokenFile) }

// Read reads a token file, as Open makes them and as clients are given them. A
// file that others may read is an error that says how to mend it; one that does
// not exist matches fs.ErrNotExist.
func Read(path string) (string, error) {
	data, err := readPrivate(path, tokenMax+2)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(data))
	if !plausible(token) {
		return "", fmt.Errorf("%s holds no token: want one line of %d to %d printable characters; a server makes a new one when the file is removed: %w",
			path, tokenMin, tokenMax, app.ErrInvalid)
	}
	return token, nil
}

// plausible says whether a token is long enough and fits a header.
func plausible(token string) bool {
	return len(token) >= tokenMin && len(token) <= tokenMax &&
		!strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' })
}

// Who says whose token an Authorization header carries: the server's own, which
// is Owner's and may everything, or a named one. It takes the same time whether or not and where a token is wrong.
func (t *Tokens) Who(header string) (c Caller, ok bool) {
	// The scheme's case does not matter (RFC 9110, 11.1).
	scheme, token, found := strings.Cut(header, " ")
	if !found || !strings.EqualFold(scheme, "bearer") || len(token) > tokenMax {
		return c, false
	}
	sum := sha256.Sum256([]byte(strings.TrimSpace(token)))
	text := []byte(hex.EncodeToString(sum[:]))
	t.mu.RLock()
	named := t.named
	t.mu.RUnlock()

	found = subtle.ConstantTimeCompare(sum[:], t.own[:]) == 1
	c = Caller{Owner, Admin}
	for _, n := range named {
		if subtle.ConstantTimeCompare(text, []byte(n.Hash)) == 1 {
			c, found = Caller{n.Name, n.Role}, true
		}
	}
	if !found {
		return Caller{}, false
	}
	return c, true
}

// possible are the names of tokens.
var possible = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$`)

// Add makes a token with a name and a role and returns it. It is not kept: nobody can read
// it again. A name that is taken is app.ErrExists.
func (t *Tokens) Add(name string, role Role) (string, error) {
	if _, err := ParseRole(string(role)); err != nil {
		return "", err
	}
	if !possible.MatchString(name) || name == Owner {
		return "", fmt.Errorf("token %q: want up to 64 letters, digits, dots, hyphens, _ or @, and not %q: %w", name, Owner, app.ErrInvalid)
	}
	token := fresh()
	sum := sha256.Sum256([]byte(token))
	added := Named{name, hex.EncodeToString(sum[:]), role, time.Now().UTC().Truncate(time.Second)}
	return token, t.change(func(named []Named) ([]Named, error) {
		i, taken := slices.BinarySearchFunc(named, name, byName)
		if taken {
			return nil, fmt.Errorf("token %s: %w; remove it first", name, app.ErrExists)
		}
		if len(named) == namedMax {
			return nil, fmt.Errorf("there are %d tokens already, which is the most; remove one first: %w", namedMax, app.ErrInvalid)
		}
		return slices.Insert(named, i, added), nil
	})
}

// Remove has the named token accepted no more. One that is not there is
// app.ErrNotFound.
func (t *Tokens) Remove(name string) error {
	return t.change(func(named []Named) ([]Named, error) {
		i, there := slices.BinarySearchFunc(named, name, byName)
		if !there {
			return nil, fmt.Errorf("token %q: %w", name, app.ErrNotFound)
		}
		return slices.Delete(named, i, i+1), nil
	})
}

// List is the named tokens, by name.
func (t *Tokens) List() []Named {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return slices.Clone(t.named)
}

// change replaces the named tokens by what fn makes of a copy of them, on disk
// and then here.
func (t *Tokens) change(fn func([]Named) ([]Named, error)) error {
	t.changing.Lock()
	defer t.changing.Unlock()
	named, err := fn(t.List())
	if err != nil {
		return err
	}
	if err := writeNamed(filepath.Join(t.dir, namedFile), named); err != nil {
		return fmt.Errorf("keep tokens: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.named = named
	return nil
}

func byName(n Named, name string) int { return strings.Compare(n.Name, name) }

// fresh makes a token.
func fresh() string {
	b := make([]byte, tokenBytes)
	rand.Read(b) // never fails: crypto/rand.Read
	return prefix + base64.RawURLEncoding.EncodeToString(b)
}
