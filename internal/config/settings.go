package config

import (
	"slices"
	"strings"
	"time"
)

// Setting is one row of the table.
type Setting struct {
	// Name is the setting's one name. Its flag, variable and key are that name,
	// spelt as flags, variables and keys are.
	Name string

	Takes   string // what a value looks like, as in ADDRESS; "" for yes or no
	Default string // as it would be written; may be ""
	Meaning string // one sentence or two, with the unit and the bounds

	// implied is the default where other settings have one of their own for this;
	// "" where they do not.
	implied func(c Config) string

	many  bool                     // may be given several times, or as a list
	shown func(text string) string // how it is printed, where that is not as it was written
	set   func(c *Config, text string) *fault
}

// Flag is how the setting is written on the command line.
func (s Setting) Flag() string { return "--" + s.Name }

// Variable is how it is written in the environment.
func (s Setting) Variable() string {
	return prefix + strings.ToUpper(strings.ReplaceAll(s.Name, "-", "_"))
}

// Key is how it is written in the file.
func (s Setting) Key() string { return strings.ReplaceAll(s.Name, "-", "_") }

// Many says that it takes a list: several flags, commas in between, or a list
// in the file.
func (s Setting) Many() bool { return s.many }

// Switch says that its flag needs no value.
func (s Setting) Switch() bool { return s.Takes == "" }

// prefix begins the variables that are ours.
const prefix = "HOLDFAST_"

// Settings is the table, in the order in which people should meet it. The
// caller owns what it gets.
func Settings() []Setting {
	return slices.Concat(general(), limits())
}

// general are the settings that are not about strangers.
func general() []Setting {
	return []Setting{
		{
			Name: "data", Takes: "DIR", Default: "holdfast-data",
			Meaning: "Folder of everything the server keeps: what it was told, sources, builds, instances, logs. Made when absent.",
			set:     text(func(c *Config) *string { return &c.Data }, path),
		},
		{
			Name: "listen", Takes: "ADDRESS", Default: "127.0.0.1:8080", many: true,
			Meaning: "Where requests arrive over plain HTTP. `:80` is port 80 of all addresses, of IPv4 and IPv6; port 0 takes a free one; `unix:/run/holdfast.sock` is a Unix socket; `none` is nowhere. Several are fine. With `acme-email` the default is `:80`.",
			implied: withACME(":80"),
			set:     several(func(c *Config) *[]string { return &c.Listen }, socketAddress),
		},
		{
			Name: "listen-tls", Takes: "ADDRESS", Default: "none", many: true,
			Meaning: "Where requests arrive over TLS, such as `:443`. It needs certificates: `acme-email` or `tls-cert`. With the former the default is `:443`.",
			implied: withACME(":443"),
			set:     several(func(c *Config) *[]string { return &c.ListenTLS }, socketAddress),
		},
		{
			Name: "tls-cert", Takes: "FILE", Default: "", many: true,
			Meaning: "A certificate with its chain, PEM, for the names in it. Read again when it changes. Several are fine.",
			set:     several(func(c *Config) *[]string { return &c.TLSCert }, file),
		},
		{
			Name: "tls-key", Takes: "FILE", Default: "", many: true,
			Meaning: "Its key, PEM. As many as there are certificates, in the same order.",
			set:     several(func(c *Config) *[]string { return &c.TLSKey }, file),
		},
		{
			Name: "acme-email", Takes: "EMAIL", Default: "",
			Meaning: "Obtain certificates for every host name that is served, and renew them, from an authority that may write to this address; naming one accepts its terms. Ports 80 and 443 of the names have to lead here, or there is `acme-hook`.",
			set:     text(func(c *Config) *string { return &c.ACMEEmail }, email),
		},
		{
			Name: "acme-ca", Takes: "URL", Default: "https://acme-v02.api.letsencrypt.org/directory",
			Meaning: "The authority: the URL of its ACME directory.",
			set:     text(func(c *Config) *string { return &c.ACMECA }, directory),
		},
		{
			Name: "acme-ca-root", Takes: "FILE", Default: "",
			Meaning: "Certificates, PEM, that vouch for the authority's own server, for one of your own. Without it: whom the system trusts.",
			set:     text(func(c *Config) *string { return &c.ACMECARoot }, fileOrNone),
		},
		{
			Name: "acme-hook", Takes: "FILE", Default: "",
			Meaning: "A program that writes DNS records, so that one certificate is for all names below a base domain: `FILE present NAME VALUE` adds a TXT record and returns when it can be seen, `FILE cleanup NAME VALUE` removes it.",
			set:     text(func(c *Config) *string { return &c.ACMEHook }, programOrNone),
		},
		{
			Name: "redirect", Default: "true",
			Meaning: "Lead plain HTTP to HTTPS, for names that have a certificate. `--redirect=false` serves them over both.",
			set:     yesNo(func(c *Config) *bool { return &c.Redirect }),
		},
		{
			Name: "hsts", Takes: "DURATION", Default: "0s",
			Meaning: "Tell browsers over TLS to use nothing else for so long (Strict-Transport-Security), such as `8760h`; they cannot be told otherwise before. 0s tells them nothing.",
			set:     hsts,
		},
		{
			Name: "trusted-proxies", Takes: "ADDRESSES", Default: "none", many: true,
			Meaning: "Addresses of proxies before this server, such as `10.0.0.0/8`, or `unix` for who comes over a Unix socket. Of them alone X-Forwarded-For, X-Forwarded-Proto and the PROXY protocol (versions 1 and 2) are believed.",
			set:     proxies,
		},
		{
			Name: "admin", Takes: "HOST:PORT", Default: "127.0.0.1:8079", many: true,
			Meaning: "Where the admin API is. At an address that other machines reach it speaks TLS, for which there have to be certificates, and is asked by the name of a `domain`. Several are fine, such as `127.0.0.1:8079,:8443`.",
			set:     several(func(c *Config) *[]string { return &c.Admin }, address),
		},
		{
			Name: "admin-plain", Default: "false",
			Meaning: "Let `admin` be an address that other machines reach and speak plain HTTP there, though tokens pass there readable for others: for networks that hide them by themselves.",
			set:     yesNo(func(c *Config) *bool { return &c.AdminPlain }),
		},
		{
			Name: "domain", Takes: "DOMAIN", Default: "localhost", many: true,
			Meaning: "Base domain of the host names, as in SERVICE-dot-PROJECT.DOMAIN. Several are fine.",
			set:     domains,
		},
		{
			Name: "region", Takes: "REGION_ID", Default: "local",
			Meaning: "REGION_ID of the host names PROJECT.REGION_ID.r.DOMAIN.",
			set:     text(func(c *Config) *string { return &c.Region }, label),
		},
		{
			Name: "project", Takes: "PROJECT", Default: "",
			Meaning: "Application that is meant when a command or a host name such as localhost names none. Without it: the only one there is.",
			set:     text(func(c *Config) *string { return &c.Project }, projectOrNone),
		},
		{
			Name: "user", Takes: "USER", Default: "",
			Meaning: "Run the apps as this user. Needs root. Without it they run as who runs the server, as builds always do.",
			set:     text(func(c *Config) *string { return &c.User }, runAs),
		},
		{
			Name: "confine", Default: "true",
			Meaning: "Keep apps from each other's files and from what the server keeps, by Landlock where the kernel has it (Linux 5.19 and later). The folders on the way to `data` cannot be listed by them then; SECURITY.md has the rest.",
			set:     yesNo(func(c *Config) *bool { return &c.Confine }),
		},
		{
			Name: "keep-instances", Default: "false",
			Meaning: "Stopping the server leaves the apps running, and its successor finds them: for restarts of the server itself.",
			set:     yesNo(func(c *Config) *bool { return &c.KeepInstances }),
		},
		{
			Name: "stop-within", Takes: "DURATION", Default: "45s",
			Meaning: "Stopping says goodbye to sockets, lets requests end and stops apps politely, for at most so long; then all is cut. 1s to 10m.",
			set:     within(func(c *Config) *time.Duration { return &c.StopWithin }, stopWithinMin, stopWithinMax),
		},
		{
			Name: "maintenance", Takes: "WINDOW", Default: "always",
			Meaning: "When instances older than holdfast.max_age may be replaced, in the machine's time: `02:00-05:00`, `Sat,Sun 22:00-04:00`, `always`.",
			set:     window,
		},
		{
			Name: "redis", Takes: "URL", Default: "",
			Meaning: "Lead apps with `holdfast.bus: redis` to this Redis or Valkey, as in `redis://user:password@host:6379/0`, instead of the bus in the box. All apps share it.",
			set:     text(func(c *Config) *string { return &c.Redis }, redis),
			shown:   withoutPassword,
		},
		{
			Name: "nearest-runtime", Default: "false",
			Meaning: "Build with the nearest version of a runtime where this machine lacks the one asked for, instead of refusing.",
			set:     yesNo(func(c *Config) *bool { return &c.NearestRuntime }),
		},
		{
			Name: "builds-max", Takes: "SIZE", Default: "5GB",
			Meaning: "Disk for builds. What no version needs goes first once it is more; what one needs stays. 100MB or more.",
			set:     size(func(c *Config) *int64 { return &c.BuildsMax }),
		},
		{
			Name: "sources-max", Takes: "SIZE", Default: "2GB",
			Meaning: "Disk for uploaded sources. What no version needs goes first once it is more; what one needs stays. 100MB or more.",
			set:     size(func(c *Config) *int64 { return &c.SourcesMax }),
		},
		{
			Name: "logs-max", Takes: "SIZE", Default: "2GB",
			Meaning: "Disk for logs of instances and requests. Those of instances that are gone go first, the oldest before the others; each that is being written keeps its last 50 MiB. 100MB or more.",
			set:     size(func(c *Config) *int64 { return &c.LogsMax }),
		},
		{
			Name: "logs-age", Takes: "DURATION", Default: "720h",
			Meaning: "Logs of instances and requests are removed when they were written longer ago. 1h to 87600h.",
			set:     within(func(c *Config) *time.Duration { return &c.LogsAge }, time.Hour, 87600*time.Hour),
		},
		{
			Name: "log-level", Takes: "LEVEL", Default: "info",
			Meaning: "The least that the server's own log shows: debug, info, warn or error.",
			set:     level,
		},
		{
			Name: "log-format", Takes: "FORMAT", Default: "text",
			Meaning: "text for people, json for machines.",
			set:     oneOf(func(c *Config) *string { return &c.LogFormat }, FormatText, FormatJSON),
		},
		{
			Name: "log-stdout", Takes: "WHAT", Default: StdoutNone,
			Meaning: "Write lines of logs to standard output too, a JSON object each, for journald and other collectors: those of `requests` and sockets, of `apps`, or `all`; else `none`. The files stay as they are, and a reader that is slow is waited for as long as they last.",
			set:     oneOf(func(c *Config) *string { return &c.LogStdout }, StdoutNone, StdoutRequests, StdoutApps, StdoutAll),
		},
		{
			Name: "otlp-endpoint", Takes: "URL", Default: "",
			Meaning: "Tell an OpenTelemetry collector what became of requests and sockets, as spans over OTLP/HTTP: `http://127.0.0.1:4318`, where `/v1/traces` is added when there is no path. Without it nothing is traced.",
			set:     text(func(c *Config) *string { return &c.OTLP }, collector),
			shown:   withoutPassword,
		},
		{
			Name: "otlp-share", Takes: "SHARE", Default: "0.01",
			Meaning: "The share of requests that are traced where the client does not say so itself by `traceparent` or `X-Cloud-Trace-Context`. 0 to 1.",
			set:     share(func(c *Config) *float64 { return &c.OTLPShare }),
		},
	}
}

// withACME is a default that holds where certificates are obtained.
func withACME(text string) func(Config) string {
	return func(c Config) string {
		if c.ACMEEmail == "" {
			return ""
		}
		return text
	}
}
