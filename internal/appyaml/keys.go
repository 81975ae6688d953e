package appyaml

// Key is one of our own settings in beta_settings.
type Key struct {
	Name    string
	Default string // as it is written, or what holds without it
	Meaning string
}

// Keys lists them, in the order in which people should meet them.
func Keys() []Key {
	return []Key{
		{"holdfast.websocket_timeout", "3600s", "a WebSocket ends this long after it was opened"},
		{"holdfast.drain", "25s", "longest time connections are given to move away; up to 24h"},
		{"holdfast.drain_signal", "none", "`SIGUSR1`: sent to the app's process when its instance begins to drain; one that does not handle it ends"},
		{"holdfast.affinity", "cookie,sid", "by what `session_affinity` knows a client again: our cookie, the session of its long polling (engine.io 3 and 4, SockJS), or both"},
		{"holdfast.rebalance", "off", "`gentle`: idle sockets move to a fresh instance, 0.2 % a second, while they are more than 20 % uneven; not with `session_affinity`"},
		{"holdfast.bus", "none", "`redis`: instances get `REDIS_URL`, which carries messages between them"},
		{"holdfast.bus_env", "none", "the same address under this name too"},
		{"holdfast.max_age", "168h", "instances older than this are replaced, the weekly restart; `0` is never"},
		{"holdfast.max_body", "33554432", "bytes of a request's body, as on App Engine; 413 beyond. The default is the server's `--body-max`"},
		{"holdfast.ping_interval", "never", "ping each client this often; its answers go no further"},
		{"holdfast.max_message_bytes", "any", "a client's bigger message ends its socket with 1009"},
		{"holdfast.max_messages_per_second", "any", "more from one client end its socket with 1008"},
		{"holdfast.max_sockets_per_client", "any", "more handshakes of one address (IPv6: one /64) get 429"},
		{"holdfast.allowed_origins", "any", "such as `self, https://*.example.org`; pages of other origins get 403"},
		{"holdfast.strict_frames", "false", "a frame that breaks RFC 6455 ends the socket with 1002"},
	}
}
