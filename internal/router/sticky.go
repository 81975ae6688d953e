package router

import (
	"encoding/binary"
	"io"
	"math"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"holdfast/internal/tunnel"
)

// Session affinity: which instance a client belongs to. In this order:
//
//  1. The session that the request names, where we know its instance: no other
//     one can answer it.
//  2. The client's cookie.
//  3. For what speaks of a session that we do not know: the client's address, or
//     the session's name where the client chose it. Equal routers come to the
//     same, so that a session which another one began is found.
//  4. Whoever carries least, as without affinity.
//
// A drill may have a share of the sessions forgotten: their requests go to whoever
// carries least, as if there were no affinity, and belong where they did when the
// drill is over.
//
// An instance that carries half as much again as it is meant for gets no new
// sessions but those for which there is no better place.

const (
	// crowdFactor is how much more than its even share an instance may carry
	// before clients that their address leads to it are placed elsewhere.
	crowdFactor = 1.25

	// crowdSlack is what it may carry beyond that in any case. Chance alone puts
	// n more or less sqrt(n) clients on an instance; with this many to spare, fewer
	// than three in a thousand are placed elsewhere for chance alone, however many
	// there are, so that equal routers whose clients are many and different agree.
	crowdSlack = 8

	// overloadFactor: "over its target_concurrent_requests by half".
	overloadFactor = 1.5
)

// stick picks an instance for a client that may belong to one, and counts the
// request.
func (x *exchange) stick() bool {
	now := time.Now()
	x.pinned, x.lost, x.reseal, x.learns = tunnel.Chosen, "", false, false
	if x.pool.sids != nil {
		x.talk = listen(x.req.Method, x.req.URL.Path, x.req.URL.RawQuery)
	}
	if x.talk.sid != "" {
		x.digest = digestOf(x.r.salt, x.pool.key, x.talk.sid)
		if x.pool.forgets(x.digest) {
			x.lost = lostDrill
			return x.pick()
		}
		if i, home := x.session(now); i >= 0 {
			x.pinned = tunnel.BySid
			x.hold(x.pool.ready[i])
			x.missed(home)
			return true
		}
	}
	// A session that the table knows is not learnt again; its digest is still
	// good for a place when its instance refused and all others did.
	x.learns = x.talk.begins

	if !x.pool.cookie {
		return x.home()
	}
	ses, known := x.affinity(now)
	switch {
	case !known:
		if !x.home() {
			return false
		}
		x.cookie = newSession()
	case x.pool.forgets(ses.id):
		if !x.pick() {
			return false
		}
		x.lost = lostDrill
		x.cookie = ses
	default:
		begins := x.talk.begins || x.socket && x.talk.sid == ""
		i := x.belongs(ses, begins)
		if i < 0 {
			return false
		}
		x.pinned = tunnel.ByCookie
		x.cookie = ses
		x.hold(x.pool.ready[i])
		x.missed(ses.instance)
	}
	x.reseal = !known || ses.instance != x.at.id || now.Sub(ses.issued) > cookieRefresh
	x.cookie.instance, x.cookie.issued = x.at.id, now
	return true
}

// belongs is the instance of a client with a cookie: the cookie's, or when that
// is gone or refused, or overloaded where a session begins, the client's next.
// -1 where all refused.
func (x *exchange) belongs(ses session, begins bool) int {
	home := slices.Index(x.pool.ids, ses.instance)
	if home >= 0 && x.refusedBy(ses.instance) {
		home = -1
	}
	if begins && (home < 0 || x.pool.overloaded(home)) {
		if i := rendezvous(ses.id, x.pool.ids, func(id string) bool {
			return x.refusedBy(id) || x.pool.overloaded(slices.Index(x.pool.ids, id))
		}); i >= 0 {
			return i
		}
	}
	if home >= 0 {
		return home // there is no better place
	}
	return rendezvous(ses.id, x.pool.ids, x.refusedBy)
}

// session is the instance of the session that the request names; -1 where the
// table does not know it. home is the id of the one that it was with. A lost
// instance's sessions go to one successor each.
func (x *exchange) session(now time.Time) (i int, home string) {
	t := x.pool.sids.find(x.digest, now)
	if t == nil {
		return -1, ""
	}
	i = slices.IndexFunc(x.pool.ready, func(m member) bool { return m.load == t })
	if i >= 0 && !x.refusedBy(x.pool.ids[i]) {
		return i, t.id
	}
	lost := i < 0
	if i = rendezvous(x.digest, x.pool.ids, x.refusedBy); i >= 0 && lost {
		x.pool.sids.learn(x.digest, x.pool.ready[i].load, now)
	}
	return i, t.id
}

// missed notes why a client did not come to the instance that it belongs to, if
// it did not.
func (x *exchange) missed(home string) {
	switch {
	case x.at.id == home:
	case x.refusedBy(home):
		x.lost = lostRefused
	case slices.Contains(x.pool.ids, home):
		x.lost = lostOverloaded
	default:
		x.lost = x.pool.why(home)
	}
}

// home places a client that no cookie and no table knows.
func (x *exchange) home() bool {
	if x.talk.none() {
		return x.pick()
	}
	key := addressKey(x.r.salt, x.client)
	if x.talk.byName {
		key = x.digest
	}
	i := -1
	if x.talk.begins {
		x.pool.sids.tidy(time.Now())
		var room [32]carrier
		all := room[:0]
		for j, m := range x.pool.ready {
			all = append(all, carrier{
				load: m.load.requests.Load() + m.load.sockets.Load() + m.load.sessions.Load(),
				out:  x.refusedBy(m.id),
				over: x.pool.overloaded(j),
			})
		}
		i = settle(key, x.pool.ids, all)
	} else {
		i = rendezvous(key, x.pool.ids, x.refusedBy)
	}
	if i < 0 {
		return false
	}
	x.hold(x.pool.ready[i])
	return true
}

// carrier is a ready instance as settle sees it.
type carrier struct {
	load int64 // requests, sockets and sessions
	out  bool  // it refused the connection
	over bool  // it carries more than it is meant for
}

// settle chooses an instance for a new session by rendezvous hashing with bounded
// loads: the first choice of its key, unless that carries more than crowdFactor
// times its even share and crowdSlack; then whoever carries least, among equals
// by their order for this key. Overloaded ones are left out unless all are. Equal
// loads give equal choices, whatever the order of ids. The result is an index,
// -1 for none.
func settle(key [sessionBytes]byte, ids []string, all []carrier) int {
	total, in, calm := int64(0), 0, false
	for _, c := range all {
		if !c.out {
			total += c.load
			in++
			calm = calm || !c.over
		}
	}
	if in == 0 {
		return -1
	}
	index := func(id string) int { return slices.Index(ids, id) }
	out := func(c carrier) bool { return c.out || calm && c.over }
	first := rendezvous(key, ids, func(id string) bool { return out(all[index(id)]) })
	if most := math.Ceil(crowdFactor*float64(total+1)/float64(in)) + crowdSlack; float64(all[first].load+1) <= most {
		return first
	}
	least := all[first].load
	for _, c := range all {
		if !out(c) {
			least = min(least, c.load)
		}
	}
	return rendezvous(key, ids, func(id string) bool { return out(all[index(id)]) || all[index(id)].load > least })
}

// forgets tells whether a drill has the pool forget where a cookie's or a long
// polling's session belongs. It is the same session that is forgotten each time.
func (p *pool) forgets(session [sessionBytes]byte) bool {
	return p.forget > 0 && unit(mix(binary.BigEndian.Uint64(session[:]))) < p.forget
}

// overloaded tells whether an instance carries half as much again as it is
// meant for.
func (p *pool) overloaded(i int) bool {
	l := p.ready[i].load
	return p.target > 0 && float64(l.requests.Load()+l.sockets.Load()) > overloadFactor*float64(p.target)
}

// addressKey is a client's address as a key for rendezvous. Of IPv6 only the
// first 64 bits count; see addressHash.
func addressKey(salt [sessionBytes]byte, client netip.Addr) (key [sessionBytes]byte) {
	h := addressHash(client)
	for i := 0; i < sessionBytes; i += 8 {
		h = mix(h ^ binary.BigEndian.Uint64(salt[i:]))
		binary.BigEndian.PutUint64(key[i:], h)
	}
	return key
}

// heard notes what an answer's head tells of the session that its request began,
// and has the body read where it tells the name. An answer in a coding is left
// alone: those of handshakes are too short for the servers to compress.
func (x *exchange) heard(res *http.Response) {
	if !x.learns || res.StatusCode != http.StatusOK || x.at.load == nil {
		return
	}
	if x.talk.byName {
		x.pool.sids.learn(x.digest, x.at.load, time.Now())
		return
	}
	if coding := res.Header["Content-Encoding"]; len(coding) == 0 || len(coding) == 1 && coding[0] == "identity" {
		res.Body = &handshakeBody{ReadCloser: res.Body, x: x, at: x.at.load} // within the answerBody
	}
}

// handshakeBody reads the name of a new session from an answer on its way to the
// client: by the time that the client knows it, we do.
type handshakeBody struct {
	io.ReadCloser
	reader sidReader
	x      *exchange
	at     *target
}

func (b *handshakeBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if sid := b.reader.feed(p[:n]); sid != "" {
		pool := b.x.pool
		pool.sids.learn(digestOf(b.x.r.salt, pool.key, sid), b.at, time.Now())
	}
	return n, err
}
