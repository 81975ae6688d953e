package router

import (
	"net/netip"

	"holdfast/internal/app"
)

// allows says whether an application's rules let a client in: the first that
// is about it decides, by priority, and when none is it may. An IPv4 client is
// one, however it was written; a client whose address is not known is only the
// concern of rules for all.
func allows(rules []app.FirewallRule, client netip.Addr) bool {
	client = client.Unmap().WithZone("")
	for _, r := range rules {
		if r.Range == (netip.Prefix{}) || r.Range.Contains(client) {
			return !r.Deny
		}
	}
	return true
}

// barred says whether the application that was found keeps the client out.
func (x *exchange) barred() bool {
	return !allows(x.table.routes.Apps[x.place.App].Firewall, x.client)
}

// errBarred is told to whom the firewall keeps out, as App Engine does.
var errBarred = &refusal{Barred, 403, "Access is forbidden."}
