package config

import (
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/spelling"
)

// Bounds of values.
const (
	stopWithinMin = time.Second
	stopWithinMax = 10 * time.Minute // systemd's own patience is asked for in contrib/

	sizeMin = 100_000_000 // less than one build with its dependencies may need

	domainsMax = 100
	severalMax = 64 // of other lists
)

// fault is what is wrong with a value, and what to do about it.
type fault struct{ what, hint string }

// text sets a string that a check has looked at, and may have completed.
func text(at func(*Config) *string, check func(string) (string, *fault)) func(*Config, string) *fault {
	return func(c *Config, text string) *fault {
		value, wrong := check(text)
		*at(c) = value
		return wrong
	}
}

// several sets a list, of which a comma stands between two; each is looked at as
// text looks at one. "none" alone, or nothing, is an empty list.
func several(at func(*Config) *[]string, check func(string) (string, *fault)) func(*Config, string) *fault {
	return func(c *Config, text string) *fault {
		var all []string
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part == "" {
				continue
			}
			if part == none {
				if strings.TrimSpace(text) != none {
					return &fault{"it is none and something", "leave one of them out"}
				}
				break
			}
			value, wrong := check(part)
			if wrong != nil {
				return wrong
			}
			if slices.Contains(all, value) {
				return &fault{fmt.Sprintf("%q is there twice", part), "leave one of them out"}
			}
			all = append(all, value)
		}
		if len(all) > severalMax {
			return &fault{fmt.Sprintf("more than %d of them", severalMax), "remove some"}
		}
		*at(c) = all
		return nil
	}
}

// none is the list with nothing in it.
const none = "none"

// file makes the path of a file absolute.
func file(text string) (string, *fault) {
	if text == "" || strings.ContainsRune(text, 0) {
		return "", &fault{"it is no file", "name a file"}
	}
	abs, err := filepath.Abs(text)
	if err != nil {
		return "", &fault{err.Error(), "name it from / on"}
	}
	if info, err := os.Stat(abs); err != nil || info.IsDir() {
		return "", &fault{"there is no such file", "name one that is there"}
	}
	return abs, nil
}

// unixPathMax is how long a Unix socket's path may be on every system that we
// run on, in bytes: sun_path has 104 on some, with a NUL at its end.
const unixPathMax = 103

// socketAddress checks HOST:PORT or unix:PATH, and makes the latter absolute.
func socketAddress(text string) (string, *fault) {
	name, unix := strings.CutPrefix(text, "unix:")
	if !unix {
		return address(text)
	}
	if name == "" || strings.ContainsRune(name, 0) {
		return "", &fault{"it is no Unix socket", "write it as in unix:/run/holdfast.sock"}
	}
	abs, err := filepath.Abs(name)
	if err != nil || len(abs) > unixPathMax {
		return "", &fault{fmt.Sprintf("its path is longer than %d bytes, which is what systems take", unixPathMax), "choose a shorter one, as in unix:/run/holdfast.sock"}
	}
	return "unix:" + abs, nil
}

// path makes a path absolute.
func path(text string) (string, *fault) {
	if text == "" {
		return "", &fault{"it is empty", "name a folder"}
	}
	if strings.ContainsRune(text, 0) {
		return "", &fault{"it has a NUL in it", "name a folder"}
	}
	abs, err := filepath.Abs(text)
	if err != nil {
		return "", &fault{err.Error(), "name it from / on"}
	}
	if info, err := os.Stat(abs); err == nil && !info.IsDir() {
		return "", &fault{"it is a file", "name a folder"}
	}
	return abs, nil
}

// address checks HOST:PORT. Names are not looked up: that is listening's work.
func address(text string) (string, *fault) {
	_, port, err := net.SplitHostPort(text)
	if err != nil {
		hint := "write HOST:PORT, as in 127.0.0.1:8080 or :80"
		if n, err := strconv.Atoi(text); err == nil && n >= 0 && n <= 65535 {
			hint = fmt.Sprintf("write :%d for all addresses, or 127.0.0.1:%d", n, n)
		}
		return "", &fault{"it is not an address with a port", hint}
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return "", &fault{fmt.Sprintf("%q is not a port", port), "write a number from 0 to 65535"}
	}
	return text, nil
}

var (
	labelShape   = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	projectShape = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?$`)
)

// domains sets the base domains: a comma between two, as in a variable.
func domains(c *Config, text string) *fault {
	for domain := range strings.SplitSeq(text, ",") {
		domain = strings.ToLower(strings.TrimSuffix(strings.TrimSpace(domain), "."))
		if len(domain) > 253 || !allLabels(domain) {
			return &fault{fmt.Sprintf("%q is not a domain", domain), "write it as in apps.example.org: no port, no https://, no wildcard"}
		}
		if !slices.Contains(c.Domains, domain) {
			c.Domains = append(c.Domains, domain)
		}
	}
	if len(c.Domains) > domainsMax {
		return &fault{fmt.Sprintf("more than %d domains", domainsMax), "remove some"}
	}
	return nil
}

func allLabels(domain string) bool {
	for label := range strings.SplitSeq(domain, ".") {
		if !labelShape.MatchString(label) {
			return false
		}
	}
	return true
}

func label(text string) (string, *fault) {
	if !labelShape.MatchString(text) {
		return "", &fault{"it is not part of a host name", "write lower-case letters, digits and hyphens"}
	}
	return text, nil
}

func projectOrNone(text string) (string, *fault) {
	if text != "" && !projectShape.MatchString(text) {
		return "", &fault{"it is not a project id", "write up to 30 lower-case letters, digits and hyphens"}
	}
	return text, nil
}

// runAs checks that the user exists and that we may become it.
func runAs(text string) (string, *fault) {
	if text == "" {
		return "", nil
	}
	if _, err := user.Lookup(text); err != nil {
		return "", &fault{"there is no such user on this machine", "make one, as with: useradd --system " + text}
	}
	if me, err := user.Current(); os.Geteuid() != 0 && (err != nil || me.Username != text) {
		return "", &fault{"only root may run apps as another user", "start the server as root, or leave this out"}
	}
	return text, nil
}

// CheckRedis says what is wrong with the address of a Redis, and what to do
// about it; nothing when all is well.
func CheckRedis(text string) (what, hint string) {
	if _, wrong := redis(text); wrong != nil {
		return wrong.what, wrong.hint
	}
	return "", ""
}

// redis checks the address of a server that apps connect to, not we: whether it
// is there is theirs to see.
func redis(text string) (string, *fault) {
	if text == "" {
		return "", nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "redis" && u.Scheme != "rediss" || strings.ContainsRune(text, 0) {
		return "", &fault{"it is not the URL of a Redis", "write it as in redis://127.0.0.1:6379, redis://user:password@host:6379/0 or rediss://... for TLS"}
	}
	return text, nil
}

// collector completes the address of an OTLP receiver (OTLP 1.x, OTLP/HTTP).
func collector(text string) (string, *fault) {
	if text == "" {
		return "", nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.Fragment != "" || strings.ContainsRune(text, 0) {
		return "", &fault{"it is not the URL of a collector", "write it as in http://127.0.0.1:4318, its port for OTLP over HTTP"}
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/traces"
	}
	return u.String(), nil
}

// share sets a part of a whole.
func share(at func(*Config) *float64) func(*Config, string) *fault {
	return func(c *Config, text string) *fault {
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || !(n >= 0 && n <= 1) { // NaN is no share either
			return &fault{"it is no share", "write a number from 0 to 1, as in 0.05 for one of twenty"}
		}
		*at(c) = n
		return nil
	}
}

// withoutPassword is a URL as it may be printed, one that is none as well.
func withoutPassword(text string) string {
	at := strings.LastIndexByte(text, '@')
	if at < 0 {
		return text
	}
	scheme, credentials, ok := strings.Cut(text[:at], "://")
	if !ok {
		return "xxxxx" + text[at:]
	}
	user, _, _ := strings.Cut(credentials, ":")
	return scheme + "://" + user + ":xxxxx" + text[at:]
}

func yesNo(at func(*Config) *bool) func(*Config, string) *fault {
	return func(c *Config, text string) *fault {
		switch strings.ToLower(text) {
		case "true", "yes", "on", "1":
			*at(c) = true
		case "false", "no", "off", "0":
			*at(c) = false
		default:
			return &fault{"it is neither yes nor no", "write true or false"}
		}
		return nil
	}
}

func window(c *Config, text string) *fault {
	w, err := ParseWindow(text)
	if err != nil {
		return &fault{err.Error(), "write it as in 02:00-05:00, Sat,Sun 22:00-04:00 or always"}
	}
	c.Maintenance = w
	return nil
}

// units of sizes; the longer suffix first where one ends in the other. K, M and
// G count in thousands, as disks are sold.
var units = []struct {
	suffix string
	bytes  float64
}{
	{"KIB", 1 << 10}, {"MIB", 1 << 20}, {"GIB", 1 << 30}, {"TIB", 1 << 40},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

// size sets a number of bytes of disk.
func size(at func(*Config) *int64) func(*Config, string) *fault {
	return sizeBetween(at, sizeMin, 1e18, "100MB or more")
}

// sizeBetween sets a number of bytes within bounds, which are told in words.
func sizeBetween(at func(*Config) *int64, least, most float64, bounds string) func(*Config, string) *fault {
	return func(c *Config, text string) *fault {
		const how = "write it as in 500MB, 5GB or 1.5TB"
		number, unit := strings.ToUpper(strings.TrimSpace(text)), 0.0
		for _, u := range units {
			if rest, ok := strings.CutSuffix(number, u.suffix); ok {
				number, unit = strings.TrimSpace(rest), u.bytes
				break
			}
		}
		n, err := strconv.ParseFloat(number, 64)
		if unit == 0 || err != nil || !(n >= 0) { // NaN is no size either
			return &fault{"it is not a size", how}
		}
		if n*unit < least || n*unit > most {
			return &fault{"it is out of bounds", "write " + bounds}
		}
		*at(c) = int64(n * unit)
		return nil
	}
}

var levels = map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}

func level(c *Config, text string) *fault {
	l, ok := levels[strings.ToLower(text)]
	if !ok {
		return &fault{"it is not a level", "write debug, info, warn or error"}
	}
	c.LogLevel = l
	return nil
}

func oneOf(at func(*Config) *string, words ...string) func(*Config, string) *fault {
	return func(c *Config, text string) *fault {
		if !slices.Contains(words, text) {
			return &fault{"it is not known", spelling.DidYouMean(text, slices.Values(words), "write "+strings.Join(words, " or "))}
		}
		*at(c) = text
		return nil
	}
}
