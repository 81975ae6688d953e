// Package config holds the settings of `holdfast serve`: one table says for
// each how it is called, what it means, what it is when nobody says, and which
// values it takes. Flags, environment and file are read by that table, and so
// are the help and docs/configuration.md written. It starts nothing and opens
// nothing but what is needed to judge a value. Start at Config and the table in
// settings.go, then Read.
package config

import (
	"log/slog"
	"net/netip"
	"time"
)

// Config is what a server is told once: every setting, checked.
type Config struct {
	Data           string   // absolute path of the folder of everything the server keeps
	Listen         []string // addresses where requests arrive over plain HTTP: host:port, an empty host being all addresses, or unix:PATH
	ListenTLS      []string // the same over TLS
	TLSCert        []string // absolute paths of certificates with their chains, PEM
	TLSKey         []string // of their keys, as many and in the same order
	ACMEEmail      string   // whom the authority that gives certificates may write to; "" obtains none
	ACMECA         string   // URL of its directory
	ACMECARoot     string   // absolute path of certificates, PEM, that vouch for its server; "": whom the system trusts
	ACMEHook       string   // absolute path of the program that writes DNS records; "" is none
	Redirect       bool     // plain HTTP leads to TLS where a name has a certificate
	HSTS           time.Duration
	TrustedProxies []netip.Prefix // addresses whose word is taken for where a request comes from
	TrustedUnix    bool           // who comes over a Unix socket is one of them
	Admin          []string       // host:port of the admin API; at least one
	AdminPlain     bool           // Admin may be reached from other machines though it speaks plain HTTP
	Domains        []string       // base domains of the host names, lower case; at least one
	Region         string         // REGION_ID of the host names
	Project        string         // application that is meant when nobody names one; may be ""
	User           string         // runs the apps, when we are root; "" is who we are
	Confine        bool           // apps see nothing of Data but what is theirs, where the system can
	KeepInstances  bool           // a stop leaves the apps running for the successor
	StopWithin     time.Duration
	Maintenance    Window
	NearestRuntime bool   // build with the nearest version of a runtime that the machine lacks
	Redis          string // URL of a Redis that apps with holdfast.bus are led to; "" is the bus in the box
	BuildsMax      int64  // bytes of disk for builds
	SourcesMax     int64  // bytes of disk for uploaded sources
	LogsMax        int64  // bytes of disk for logs of instances and requests
	LogsAge        time.Duration
	LogLevel       slog.Level
	LogFormat      string // FormatText or FormatJSON
	LogStdout      string // StdoutNone, StdoutRequests, StdoutApps or StdoutAll
	OTLP           string // URL to which spans are posted; "": nothing is traced
	OTLPShare      float64
	Limits         Limits // of strangers
}

// The values of Config.LogFormat.
const (
	FormatText = "text"
	FormatJSON = "json"
)

// The values of Config.LogStdout: whose lines are written to standard output.
const (
	StdoutNone     = "none"
	StdoutRequests = "requests"
	StdoutApps     = "apps"
	StdoutAll      = "all"
)
