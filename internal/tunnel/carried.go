package tunnel

import "holdfast/internal/app"

// Carried is what a version's open sockets have carried so far.
type Carried struct {
	Sockets                  int
	FromClient, FromInstance Traffic // Largest is 0
}

// Carried sums up all open sockets, by version. Like Sockets it waits for the
// loops, but it keeps nothing of each socket: ten thousand take milliseconds.
func (s *Set) Carried() map[app.Key]Carried {
	by := map[carrier][]*socket{}
	for _, t := range s.matching(Filter{}) {
		by[t.carrier] = append(by[t.carrier], t)
	}
	sums := map[*app.Key]*Carried{} // sockets share their keys: few, and quickly found
	for c, all := range by {        // one after the other: at is called by one at a time
		c.look(all, func(t *socket, _ instant) {
			sum := sums[t.key]
			if sum == nil {
				sum = &Carried{}
				sums[t.key] = sum
			}
			sum.Sockets++
			sum.FromClient = sum.FromClient.Plus(t.ends[client].scan.count.traffic())
			sum.FromInstance = sum.FromInstance.Plus(t.ends[instance].scan.count.traffic())
		})
	}
	out := map[app.Key]Carried{}
	for k, sum := range sums {
		all := out[*k]
		all.Sockets += sum.Sockets
		all.FromClient, all.FromInstance = all.FromClient.Plus(sum.FromClient), all.FromInstance.Plus(sum.FromInstance)
		out[*k] = all
	}
	return out
}

// Plus is the sum of both, without Largest.
func (t Traffic) Plus(o Traffic) Traffic {
	return Traffic{
		Bytes: t.Bytes + o.Bytes, Text: t.Text + o.Text, Binary: t.Binary + o.Binary,
		Ping: t.Ping + o.Ping, Pong: t.Pong + o.Pong, Close: t.Close + o.Close, Faults: t.Faults + o.Faults,
	}
}

// AtLeast is the greater of both, number by number.
func (t Traffic) AtLeast(o Traffic) Traffic {
	return Traffic{
		Bytes: max(t.Bytes, o.Bytes), Text: max(t.Text, o.Text), Binary: max(t.Binary, o.Binary),
		Ping: max(t.Ping, o.Ping), Pong: max(t.Pong, o.Pong), Close: max(t.Close, o.Close), Faults: max(t.Faults, o.Faults),
		Largest: max(t.Largest, o.Largest),
	}
}
