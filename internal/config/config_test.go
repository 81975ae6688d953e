package config_test

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/config"
)

var update = flag.Bool("update", false, "rewrite docs/configuration.md")

// The page is what the table says.
func TestThePageIsCurrent(t *testing.T) {
	const page = "../../docs/configuration.md"
	want := config.Page()
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil || string(got) != want {
		t.Errorf("docs/configuration.md is not what the table says (%v): go test ./internal/config -update", err)
	}
}

func TestNamesAreSpeltAlike(t *testing.T) {
	shape := regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	seen := map[string]bool{}
	for _, s := range config.Settings() {
		if !shape.MatchString(s.Name) || seen[s.Name] {
			t.Errorf("%q is no name for a setting, or is there twice", s.Name)
		}
		seen[s.Name] = true
		if !strings.HasSuffix(s.Meaning, ".") {
			t.Errorf("%s: %q is no sentence", s.Name, s.Meaning)
		}
	}
	for _, s := range config.Settings() {
		if s.Name == "keep-instances" && (s.Flag() != "--keep-instances" || s.Variable() != "HOLDFAST_KEEP_INSTANCES" || s.Key() != "keep_instances") {
			t.Errorf("keep-instances is spelt %s, %s, %s", s.Flag(), s.Variable(), s.Key())
		}
	}
}

// Without a word from anybody every setting has its default.
func TestDefaults(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	want := config.Config{
		Data: filepath.Join(here, "holdfast-data"), Listen: []string{"127.0.0.1:8080"}, Admin: []string{"127.0.0.1:8079"},
		Domains: []string{"localhost"}, Region: "local", StopWithin: 45 * time.Second,
		BuildsMax: 5e9, SourcesMax: 2e9, LogsMax: 2e9, LogsAge: 720 * time.Hour, LogLevel: slog.LevelInfo, LogFormat: "text", LogStdout: "none", OTLPShare: 0.01,
		Limits: config.Limits{
			HeaderBytes: 15 << 10, HeaderTime: 30 * time.Second, BodyBytes: 32 << 20, IdleTime: 10 * time.Minute, StallTime: time.Minute,
			Conns: 10_000, ConnsPerClient: 1_000, ConnRequests: 10_000, AppOpen: 50_000, Handshakes: 500, Streams: 250, Resets: 200, Control: 500,
		},
		ACMECA: "https://acme-v02.api.letsencrypt.org/directory", Redirect: true, Confine: true,
	}
	got, values, err := config.Read(config.Input{})
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("Read() = %+v, %v\nwant %+v", got, err, want)
	}
	if len(values) != len(config.Settings()) {
		t.Fatalf("%d values for %d settings", len(values), len(config.Settings()))
	}
	for _, v := range values {
		if v.From != "default" || v.Text != v.Default {
			t.Errorf("%s is %q from %s", v.Name, v.Text, v.From)
		}
	}
}

// A flag wins over the variable, the variable over the file, the file over the
// default; whoever said it is named.
func TestPrecedence(t *testing.T) {
	in := config.Input{
		FileName: "holdfast.yaml",
		File: []byte(`# what this machine does
region: file
listen: ":1"
keep_instances: yes
maintenance: Sat,Sun 22:00-04:00
domain:
  - Apps.Example.org.
  - localhost
builds_max: 1.5GB
`),
		Environ: []string{"HOLDFAST_REGION=environ", "HOLDFAST_LISTEN=:2", "HOLDFAST_ADMIN=", "HOLDFAST_LONG=1", "HOLDFAST_SERVER=x", "OTHER=1"},
		Flags:   map[string][]string{"listen": {":3"}},
	}
	c, values, err := config.Read(in)
	if err != nil {
		t.Fatal(err)
	}
	if c.Region != "environ" || !slices.Equal(c.Listen, []string{":3"}) || !c.KeepInstances || !slices.Equal(c.Admin, []string{"127.0.0.1:8079"}) || c.BuildsMax != 1.5e9 {
		t.Errorf("Read = %+v", c)
	}
	if want := []string{"apps.example.org", "localhost"}; !slices.Equal(c.Domains, want) {
		t.Errorf("domains %v, want %v", c.Domains, want)
	}
	if got := c.Maintenance.String(); got != "Sun,Sat 22:00-04:00" {
		t.Errorf("maintenance %s", got)
	}
	from := map[string]string{}
	for _, v := range values {
		from[v.Name] = v.From
	}
	for name, want := range map[string]string{
		"listen": "flag", "region": "environment", "keep-instances": "holdfast.yaml:4", "domain": "holdfast.yaml:6", "admin": "default",
	} {
		if from[name] != want {
			t.Errorf("%s comes from %q, want %q", name, from[name], want)
		}
	}
	in.Flags["domain"] = []string{"a.example", "b.example"}
	if c, _, err := config.Read(in); err != nil || !slices.Equal(c.Domains, []string{"a.example", "b.example"}) {
		t.Errorf("two --domain: %v, %v", c.Domains, err)
	}
}

// What is wrong gets one error that names the source, the key, and what to
// write instead.
func TestAddresses(t *testing.T) {
	in := config.Input{File: []byte("listen: [':80', 'unix:s']\nlisten_tls: ['[::1]:443', ':8443']\ntls_cert: config.go\ntls_key: read.go"), FileName: "holdfast.yaml"}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := config.Read(in)
	if err != nil || !slices.Equal(c.Listen, []string{":80", "unix:" + filepath.Join(here, "s")}) || !slices.Equal(c.ListenTLS, []string{"[::1]:443", ":8443"}) ||
		!slices.Equal(c.TLSCert, []string{filepath.Join(here, "config.go")}) {
		t.Errorf("Read() = %+v, %v", c, err)
	}
}

// Who has certificates obtained listens where the world does, unless told
// otherwise.
func TestDefaultsThatOthersImply(t *testing.T) {
	in := config.Input{Flags: map[string][]string{"acme-email": {"ops@example.org"}, "trusted-proxies": {"10.1.2.3/8", "unix", "2001:db8::7"}}}
	c, values, err := config.Read(in)
	if err != nil || !slices.Equal(c.Listen, []string{":80"}) || !slices.Equal(c.ListenTLS, []string{":443"}) {
		t.Errorf("Read() = %+v, %v", c, err)
	}
	if want := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::7/128")}; !slices.Equal(c.TrustedProxies, want) || !c.TrustedUnix {
		t.Errorf("trusted are %v, unix %v", c.TrustedProxies, c.TrustedUnix)
	}
	for i, s := range config.Settings() {
		if values[i].Name != s.Name {
			t.Fatalf("%s stands where %s should", values[i].Name, s.Name)
		}
	}
	in.Flags["listen"] = []string{"127.0.0.1:8080"}
	if c, _, err := config.Read(in); err != nil || !slices.Equal(c.Listen, []string{"127.0.0.1:8080"}) {
		t.Errorf("what was said is %v, %v", c.Listen, err)
	}
}

func TestRefusals(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ source, text, want string }{
		{"file", "a: 1\nlisten: :80", `holdfast.yaml:1: a: no setting is called so: holdfast serve --help lists the keys`},
		{"file", "\n\nkeep_instanecs: true", `holdfast.yaml:3: keep_instanecs: no setting is called so: did you mean "keep_instances"?`},
		{"file", "keep-instances: true", `did you mean "keep_instances"?`},
		{"file", "region: a\nregion: b", `holdfast.yaml:2: region: it is there twice: the first is at holdfast.yaml:1`},
		{"file", "region: [a, b]", `holdfast.yaml:1: region: it takes a single value, not a list`},
		{"file", "listen: [none, ':81']", `holdfast.yaml:1: listen="none,:81": it is none and something`},
		{"file", "admin: none", `nobody could command the server`},
		{"file", "listen: none", `holdfast.yaml:1: listen="none": requests would arrive nowhere`},
		{"file", "listen: [':80', ':80']", `":80" is there twice`},
		{"file", "listen-tls: ':443'", `did you mean "listen_tls"?`},
		{"file", "listen_tls: ':443'", `holdfast.yaml:1: listen_tls=":443": there is no certificate: have them obtained`},
		{"file", "tls_cert: nowhere.pem", `tls_cert="nowhere.pem": there is no such file`},
		{"file", "acme_email: Ops <ops@example.org>", `it is no e-mail address`},
		{"file", "acme_ca: http://example.org", `it is not the URL of an ACME directory`},
		{"file", "acme_hook: config.go", `it cannot be run: make it executable`},
		{"file", "{acme_email: a@example.org, listen_tls: none}", `acme_email="a@example.org": certificates would be obtained and not used`},
		{"file", "{tls_cert: config.go, tls_key: config.go}", `the certificate would not be used`},
		{"hsts", "1y", `it is not a duration: write it as in 8760h`},
		{"hsts", "-1s", `it is out of bounds`},
		{"trusted-proxies", "10.0.0.0/8,example.org", `"example.org" is neither an address nor a network`},
		{"trusted-proxies", "::ffff:10.0.0.1", `is an IPv4 address in IPv6`},
		{"file", "tls_cert: config.go", `there are 1 certificates and 0 keys`},
		{"file", "listen:", `holdfast.yaml:1: listen: it has no value`},
		{"file", "listen: {a: 1}", `listen: it takes a single value`},
		{"file", "domain: [[a]]", `domain: it takes a single value`},
		{"file", "domain: []", `domain: the list is empty`},
		{"file", "listen: 80", `holdfast.yaml:1: listen="80": it is not an address with a port: write :80 for all addresses, or 127.0.0.1:80`},
		{"file", "- listen", `the file is no mapping of keys to values`},
		{"file", "hello", `the file is no mapping of keys to values`},
		{"file", "listen: \"", `holdfast.yaml`},
		{"file", "region: a\n---\nregion: b", `a second document`},
		{"file", "region: &a b", `region: it takes a single value`},
		{"file", "listen:\t:80", `the file has tabs in it`},
		{"file", strings.Repeat("#", config.FileBytesMax+1), `more than 16384 bytes`},
		{"environ", "HOLDFAST_LISTEN=nonsense", `HOLDFAST_LISTEN="nonsense": it is not an address with a port`},
		{"environ", "HOLDFAST_LSITEN=:80", `HOLDFAST_LSITEN: no setting is called so: did you mean HOLDFAST_LISTEN?`},
		{"environ", "HOLDFAST_KEEP_INSTANCE=1", `did you mean HOLDFAST_KEEP_INSTANCES?`},
		{"listen", "127.0.0.1:http", `--listen="127.0.0.1:http": "http" is not a port`},
		{"listen", ":65536", `is not a port`},
		{"data", file, `it is a file: name a folder`},
		{"data", "", `--data: it is empty`},
		{"domain", "https://a.example", `"https://a.example" is not a domain`},
		{"domain", "a.example,", `"" is not a domain`},
		{"region", "US", `--region="US": it is not part of a host name`},
		{"project", "My App", `it is not a project id`},
		{"user", "no-such-user-here", `there is no such user`},
		{"keep-instances", "maybe", `it is neither yes nor no: write true or false`},
		{"stop-within", "45", `it is not a duration: write it as in 45s or 2m`},
		{"stop-within", "1h", `it is out of bounds: write 1s to 10m0s`},
		{"maintenance", "2-5", `"2" is not a time such as 02:00`},
		{"maintenance", "Foo 02:00-05:00", `"Foo" is not a day such as Mon`},
		{"maintenance", "02:00-02:00", `it ends when it begins`},
		{"maintenance", "02:00", `it has no end`},
		{"maintenance", "", `it is not a window`},
		{"builds-max", "5", `it is not a size: write it as in 500MB, 5GB or 1.5TB`},
		{"builds-max", "NaNGB", `it is not a size`},
		{"builds-max", "1MB", `it is out of bounds: write 100MB or more`},
		{"sources-max", "-5GB", `it is not a size`},
		{"log-level", "loud", `it is not a level: write debug, info, warn or error`},
		{"log-format", "jsn", `did you mean "json"?`},
		{"log-stdout", "everything", `write none or requests or apps or all`},
		{"otlp-endpoint", "127.0.0.1:4318", `it is not the URL of a collector: write it as in http://127.0.0.1:4318`},
		{"otlp-share", "5%", `it is no share: write a number from 0 to 1`},
	} {
		in := config.Input{FileName: "holdfast.yaml"}
		switch c.source {
		case "file":
			in.File = []byte(c.text)
		case "environ":
			in.Environ = []string{c.text}
		default:
			in.Flags = map[string][]string{c.source: {c.text}}
		}
		_, _, err := config.Read(in)
		if err == nil || !strings.Contains(err.Error(), c.want) || !errors.Is(err, app.ErrInvalid) {
			t.Errorf("%s %.60q: %v\nwant %s", c.source, c.text, err, c.want)
		}
	}
}

// The example for a service is one that is taken, but for the user, whom this
// machine need not have.
func TestTheExampleIsTaken(t *testing.T) {
	text, err := os.ReadFile("../../contrib/holdfast.yaml")
	if err != nil {
		t.Fatal(err)
	}
	in := config.Input{File: []byte(strings.Replace(string(text), "\nuser:", "\n# user:", 1)), FileName: "holdfast.yaml"}
	if c, _, err := config.Read(in); err != nil || len(c.Domains) != 2 || c.Maintenance.String() != "02:00-05:00" {
		t.Errorf("contrib/holdfast.yaml: %+v, %v", c, err)
	}
}

func TestWindows(t *testing.T) {
	for text, want := range map[string]string{
		"always": "always", " Always ": "always", "02:00-05:00": "02:00-05:00", "22:00-24:00": "22:00-24:00",
		"saturday 23:30-01:15": "Sat 23:30-01:15", "fri,Mon  00:00-24:00": "Mon,Fri 00:00-24:00",
	} {
		w, err := config.ParseWindow(text)
		if err != nil || w.String() != want {
			t.Errorf("ParseWindow(%q) = %v, %v; want %s", text, w, err, want)
		}
		if again, err := config.ParseWindow(w.String()); err != nil || again != w {
			t.Errorf("%s read again is %v, %v", w, again, err)
		}
	}
}

// Whatever a file has, reading it ends with a configuration or with an *Error.
func FuzzFile(f *testing.F) {
	for _, s := range []string{"", "listen: :80", "domain: [a, b]", "a: &b c", "? a\n: b", "- a", "!!str a", "a: |\n  b", "{", "\"", "#\n---\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 2000 { // the parser is slow on what it dislikes; its bound is the constant's business
			return
		}
		_, values, err := config.Read(config.Input{File: data, FileName: "f"})
		var e *config.Error
		if err == nil && len(values) == 0 || err != nil && !errors.As(err, &e) {
			t.Fatalf("Read = %v, %v", values, err)
		}
	})
}

// The address of a Redis often carries a password, which nobody is shown.
func TestARedisIsNamedWithoutItsPassword(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"redis://shop:geheim@host:6379/1", "redis://:geheim@host", "http://a:geheim@host", "redis:%zz:geheim@x"} {
		c, values, err := config.Read(config.Input{Flags: map[string][]string{"redis": {text}}})
		if err == nil && c.Redis != text {
			t.Errorf("%s became %s", text, c.Redis)
		}
		if said := fmt.Sprint(values, err); strings.Contains(said, "geheim") {
			t.Errorf("%s is shown: %s", text, said)
		}
	}
	for _, text := range []string{"host:6379", "http://host", "redis://", "redis:///0"} {
		if _, _, err := config.Read(config.Input{Flags: map[string][]string{"redis": {text}}}); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
}
