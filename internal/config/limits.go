package config

import (
	"fmt"
	"strconv"
	"time"
)

// Limits are what strangers may have of a server.
type Limits struct {
	HeaderBytes    int64 // of a request
	HeaderTime     time.Duration
	BodyBytes      int64 // of a request, where its version says nothing
	IdleTime       time.Duration
	StallTime      time.Duration
	Conns          int // without WebSockets
	ConnsPerClient int
	ConnRequests   int // that one connection carries
	AppOpen        int // requests and WebSockets of one app
	Handshakes     int
	Streams        int // of an HTTP/2 connection
	Resets         int // in a second
	Control        int // in a second
}

// limits are the settings about strangers.
func limits() []Setting {
	return []Setting{
		{
			Name: "headers-max", Takes: "SIZE", Default: "15KiB",
			Meaning: "Bytes of a request's line and headers; 431 beyond. 8KiB to 1MiB.",
			set:     sizeBetween(func(c *Config) *int64 { return &c.Limits.HeaderBytes }, 8<<10, 1<<20, "8KiB to 1MiB"),
		},
		{
			Name: "headers-within", Takes: "DURATION", Default: "30s",
			Meaning: "Time that a request's headers may take to arrive; then the connection is closed. 5s to 10m.",
			set:     within(func(c *Config) *time.Duration { return &c.Limits.HeaderTime }, 5*time.Second, 10*time.Minute),
		},
		{
			Name: "body-max", Takes: "SIZE", Default: "32MiB",
			Meaning: "Bytes of a request's body, as on App Engine; 413 beyond. A version may say otherwise by `holdfast.max_body`. 1KiB to 1TiB.",
			set:     sizeBetween(func(c *Config) *int64 { return &c.Limits.BodyBytes }, 1<<10, 1<<40, "1KiB to 1TiB"),
		},
		{
			Name: "idle-within", Takes: "DURATION", Default: "10m",
			Meaning: "Time between two requests of a connection; then it is closed. 1s to 24h.",
			set:     within(func(c *Config) *time.Duration { return &c.Limits.IdleTime }, time.Second, 24*time.Hour),
		},
		{
			Name: "stall-within", Takes: "DURATION", Default: "1m",
			Meaning: "Time that a client may take nothing of an answer that is written to it (then it is cut), or send nothing of a body that is waited for (408). WebSockets have their own. 5s to 1h.",
			set:     within(func(c *Config) *time.Duration { return &c.Limits.StallTime }, 5*time.Second, time.Hour),
		},
		{
			Name: "connections-max", Takes: "NUMBER", Default: "10000",
			Meaning: "Connections open at once, without those that are WebSockets, which descriptors bound; newcomers get 503.",
			set:     whole(func(c *Config) *int { return &c.Limits.Conns }),
		},
		{
			Name: "connections-per-client", Takes: "NUMBER", Default: "1000",
			Meaning: "The same of one address, or of an IPv6 /64; newcomers get 429. Trusted proxies come for many and are not counted.",
			set:     whole(func(c *Config) *int { return &c.Limits.ConnsPerClient }),
		},
		{
			Name: "connection-requests", Takes: "NUMBER", Default: "10000",
			Meaning: "Requests that one connection carries; the answer to the last one says that it ends.",
			set:     whole(func(c *Config) *int { return &c.Limits.ConnRequests }),
		},
		{
			Name: "app-open-max", Takes: "NUMBER", Default: "50000",
			Meaning: "Requests and WebSockets of one app open at once; one more gets 503, so that the other apps have some.",
			set:     whole(func(c *Config) *int { return &c.Limits.AppOpen }),
		},
		{
			Name: "handshakes-max", Takes: "NUMBER", Default: "500",
			Meaning: "TLS handshakes under way at once; newcomers are closed. Each has 10 seconds.",
			set:     whole(func(c *Config) *int { return &c.Limits.Handshakes }),
		},
		{
			Name: "streams-max", Takes: "NUMBER", Default: "250",
			Meaning: "Streams of an HTTP/2 connection open at once, its WebSockets too; more are refused.",
			set:     whole(func(c *Config) *int { return &c.Limits.Streams }),
		},
		{
			Name: "resets-per-second", Takes: "NUMBER", Default: "200",
			Meaning: "Streams that the client of an HTTP/2 connection may give up; more end the connection.",
			set:     whole(func(c *Config) *int { return &c.Limits.Resets }),
		},
		{
			Name: "control-frames-per-second", Takes: "NUMBER", Default: "500",
			Meaning: "Frames of an HTTP/2 connection that carry nothing (settings, pings, priorities, continuations, windows beyond what is sent); more end the connection.",
			set:     whole(func(c *Config) *int { return &c.Limits.Control }),
		},
	}
}

// wholeMax is beyond what any machine carries.
const wholeMax = 100_000_000

// whole sets a number, of one at least.
func whole(at func(*Config) *int) func(*Config, string) *fault {
	return func(c *Config, text string) *fault {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > wholeMax {
			return &fault{"it is not a number that will do", fmt.Sprintf("write 1 to %d", wholeMax)}
		}
		*at(c) = n
		return nil
	}
}

// within sets a duration.
func within(at func(*Config) *time.Duration, least, most time.Duration) func(*Config, string) *fault {
	return func(c *Config, text string) *fault {
		d, err := time.ParseDuration(text)
		if err != nil {
			return &fault{"it is not a duration", "write it as in 45s or 2m"}
		}
		if d < least || d > most {
			return &fault{"it is out of bounds", fmt.Sprintf("write %v to %v", least, most)}
		}
		*at(c) = d
		return nil
	}
}
