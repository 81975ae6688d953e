package router

import "holdfast/internal/app"

// Routes is all that the data plane knows of what runs: the one value that
// comes down from control. It is a plain value and could be JSON. Set takes it
// whole; nobody changes it afterwards.
type Routes struct {
	Apps    map[string]App    // by project id
	Domains map[string]string // project ids by mapped host names, exact or *.DOMAIN
	Default Default
}

// Default is where hosts lead that name no application: localhost, bare
// addresses, the base domains themselves.
type Default struct{ App, Service string }

// App is one application's services, by name, and the rules by which paths
// lead to others of them than hosts do.
type App struct {
	Services map[string]Service
	Dispatch []app.DispatchRule // the first match wins
	Firewall []app.FirewallRule // by priority; the first match wins
}

// Service is a split and the pools it leads to, by version id. Pools without a
// share are reachable by their version's host name alone.
type Service struct {
	Split app.Split
	Pools map[string]Pool
}

// Pool is the instances of one version. It lists the Starting, Unready,
// Draining and just Stopped ones too, because they may still carry sockets.
type Pool struct {
	Stopped   bool // nothing of it will be ready until somebody starts it
	Affinity  bool
	Sticky    app.Sticky // by what, where Affinity is on
	Forget    float64    // the share of sessions, 0 to 1, that count for nothing: a drill
	Target    int        // open requests and sockets that one instance is meant for; 0: nobody said
	BodyMax   int64      // bytes of a request's body; 0: Config.Body
	Sockets   app.Sockets
	Instances []app.Instance
}

// Load is what one instance carries: the one value that goes up to control.
type Load struct {
	Requests int   // open now, without sockets
	Sockets  int   // open now
	Errors   int64 // requests that failed because of the instance, since it was first routed to
}
