package appyaml

import (
	"regexp"
	"strconv"

	"holdfast/internal/app"
)

// A port or two, as App Engine's client takes them.
var portShape = regexp.MustCompile(`^(\d{1,5})(?::(\d{1,5}))?(?:/(udp|tcp))?$`)

// forwardedPort reads "port", "host:instance", each with or without a protocol.
func (r *reader) forwardedPort(n *node) {
	if !r.is(n, scalar) {
		return
	}
	m := portShape.FindStringSubmatch(n.text)
	if m == nil {
		r.wrong(n, `write PORT or HOST:INSTANCE, and "/tcp" or "/udp" behind it if it is for one of them`, "%s: %s does not fit", n.name, quote(n.text))
		return
	}
	outside, _ := strconv.Atoi(m[1])
	inside := outside
	if m[2] != "" {
		inside, _ = strconv.Atoi(m[2])
	}
	p := app.ForwardedPort{Host: outside, Instance: inside, Protocol: m[3]}
	if !hostPort(p.Host) {
		r.wrong(n, "use 1024 to 65535, but for 8080, 8090, 8443, 10000, 10001, 10400 to 10500, 11211 and 24231", "%s: port %d of the machine cannot be forwarded", n.name, p.Host)
		return
	}
	if !instancePort(p.Instance) {
		r.wrong(n, "use 1 to 65535, but for 22, 10001, 10400 to 10500 and 11211", "%s: nothing can be forwarded to port %d of the instance", n.name, p.Instance)
		return
	}
	for _, q := range r.v.Network.ForwardedPorts {
		if p.Host == q.Host && (p.Protocol == q.Protocol || p.Protocol == "" || q.Protocol == "") {
			r.wrong(n, "", "%s: port %d of the machine is forwarded twice", n.name, p.Host)
			return
		}
	}
	r.v.Network.ForwardedPorts = append(r.v.Network.ForwardedPorts, p)
}

// The ports that App Engine's own processes on the machine have.

func hostPort(p int) bool {
	switch p {
	case 8080, 8090, 8443, 10000, 24231:
		return false
	}
	return p >= 1024 && instancePort(p)
}

func instancePort(p int) bool {
	switch p {
	case 22, 10001, 11211:
		return false
	}
	return p >= 1 && p <= 65535 && (p < 10400 || p > 10500)
}

func (r *reader) ipMode(n *node) {
	if !r.is(n, scalar) {
		return
	}
	switch n.text {
	case "external", "EXTERNAL":
	case "internal", "INTERNAL":
		r.v.Network.InternalIP = true
	default:
		r.wrong(n, "it must be external or internal", "%s: %s does not fit", n.name, quote(n.text))
	}
}

func (r *reader) finishNetwork() {
	if n := r.seen["network.subnetwork_name"]; n != nil && r.seen["network.name"] == nil {
		r.fail(n.key, "network.subnetwork_name needs network.name", "")
	}
}
