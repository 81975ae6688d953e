//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// busLoad is the generator for the bus: subscribers that count bytes, since all
// messages are of one length, one of them that looks at each, and publishers
// that keep a pace.
type busLoad struct {
	frame       int            // bytes of a message as a subscriber gets it
	begin       int            // where in them the message itself begins
	got         []atomic.Int64 // bytes, by subscriber
	subscribers []net.Conn
	broken      atomic.Int64

	mu    sync.Mutex // guards the following
	times []time.Duration
}

const (
	busChannel = "news"
	publishers = 4

	// stampBytes is how a message begins: when it was sent, in nanoseconds,
	// as many digits.
	stampBytes = 19
)

// busLoadMain is the role "busload": it obeys.
func busLoadMain([]string) error {
	return obey(os.Stdin, os.Stdout, new(busLoad).do)
}

func (g *busLoad) do(o order) report {
	r := report{Failed: map[string]int{}}
	var err error
	switch o.Do {
	case "subscribe":
		r.Done, err = g.subscribe(o)
	case "carry":
		err = g.carry(o, &r)
	default:
		r.Err = fmt.Sprintf("%q is no order", o.Do)
	}
	if err != nil {
		r.Failed[err.Error()]++
	}
	return r
}

// busDial connects and says who we are, if that is asked.
func busDial(address string) (net.Conn, *bufio.Reader, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, nil, err
	}
	c, err := net.DialTimeout("tcp", u.Host, jobTime)
	if err != nil {
		return nil, nil, err
	}
	in := bufio.NewReaderSize(c, 64<<10)
	if password, ok := u.User.Password(); ok {
		if err := ask(c, in, "+OK", "AUTH", u.User.Username(), password); err != nil {
			return nil, nil, err
		}
	}
	return c, in, nil
}

// ask sends a command and looks at the first line of its answer.
func ask(c net.Conn, in *bufio.Reader, want string, args ...string) error {
	if _, err := c.Write(command(args...)); err != nil {
		return err
	}
	line, err := in.ReadString('\n')
	if err == nil && strings.TrimSpace(line) != want {
		err = fmt.Errorf("%s: answered %q", args[0], line)
	}
	return err
}

func command(args ...string) []byte {
	b := fmt.Appendf(nil, "*%d\r\n", len(args))
	for _, a := range args {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(a), a)
	}
	return b
}

func (g *busLoad) subscribe(o order) (int, error) {
	g.frame = len(command("message", busChannel, strings.Repeat("x", o.Bytes)))
	g.begin = g.frame - len("\r\n") - o.Bytes
	g.got = make([]atomic.Int64, o.N)
	for i := range o.N {
		c, in, err := busDial(o.Addr)
		if err != nil {
			return i, err
		}
		if err := ask(c, in, "*3", "SUBSCRIBE", busChannel); err != nil {
			return i, err
		}
		rest := len("$9\r\nsubscribe\r\n$4\r\n" + busChannel + "\r\n:1\r\n")
		if _, err := in.Discard(rest); err != nil {
			return i, err
		}
		g.subscribers = append(g.subscribers, c)
		go g.listen(i, in) // ends with this process
	}
	return o.N, nil
}

// listen counts what comes. The first subscriber looks at each message.
func (g *busLoad) listen(i int, in *bufio.Reader) {
	frame := make([]byte, g.frame)
	buf := make([]byte, 64<<10)
	for {
		var n int
		var err error
		if i == 0 {
			if n, err = io.ReadFull(in, frame); err == nil {
				g.look(frame[g.begin : g.begin+stampBytes])
			}
		} else {
			n, err = in.Read(buf)
		}
		g.got[i].Add(int64(n))
		if err != nil {
			g.broken.Add(1)
			return
		}
	}
}

func (g *busLoad) look(stamp []byte) {
	sent, err := strconv.ParseInt(string(stamp), 10, 64)
	if err != nil {
		g.broken.Add(1)
		return
	}
	took := time.Since(time.Unix(0, sent))
	g.mu.Lock()
	defer g.mu.Unlock()
	g.times = append(g.times, took)
}

// carry publishes at the pace for as long as is asked, then waits until every
// subscriber has everything. Done counts messages that all got.
func (g *busLoad) carry(o order, r *report) error {
	before := make([]int64, len(g.got))
	for i := range g.got {
		before[i] = g.got[i].Load()
	}
	g.mu.Lock()
	g.times = g.times[:0]
	g.mu.Unlock()
	started := time.Now()
	var sent atomic.Int64
	failed := make(chan error, publishers)
	var all sync.WaitGroup
	for range publishers {
		all.Go(func() {
			if err := publish(o, started, &sent); err != nil {
				failed <- err
			}
		})
	}
	all.Wait()
	want := sent.Load() * int64(g.frame)
	for deadline := time.Now().Add(o.Within); ; time.Sleep(burst) {
		late := 0
		for i := range g.got {
			if g.got[i].Load()-before[i] < want {
				late++
			}
		}
		if late == 0 {
			break
		}
		if time.Now().After(deadline) || g.broken.Load() > 0 {
			r.Failed["a subscriber did not get everything"] = late
			break
		}
	}
	r.Elapsed = time.Since(started)
	r.Done = int(sent.Load())
	g.mu.Lock()
	defer g.mu.Unlock()
	slices.Sort(g.times)
	if n := len(g.times); n > 0 {
		r.P50, r.P99 = g.times[n/2], g.times[n*99/100]
	}
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// publish sends one publisher's part of what is due, every burst, and reads how
// many heard it. After a delay it sends what became due meanwhile, and the
// messages' times show it.
func publish(o order, started time.Time, sent *atomic.Int64) error {
	c, in, err := busDial(o.Addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(started.Add(o.For + o.Within)); err != nil {
		return err
	}
	rest := strings.Repeat("x", o.Bytes-stampBytes)
	total := int(o.For.Seconds() * float64(o.N) / publishers)
	var batch []byte
	for done := 0; done < total; {
		due := min(total, int(time.Since(started).Seconds()*float64(o.N)/publishers)) - done
		if due <= 0 {
			time.Sleep(burst)
			continue
		}
		batch = batch[:0]
		for range due {
			batch = append(batch, command("PUBLISH", busChannel, strconv.FormatInt(time.Now().UnixNano(), 10)+rest)...)
		}
		if _, err := c.Write(batch); err != nil {
			return err
		}
		for range due {
			line, err := in.ReadString('\n')
			if err != nil {
				return err
			}
			if line[0] != ':' {
				return errors.New("PUBLISH: answered " + strings.TrimSpace(line))
			}
		}
		done += due
		sent.Add(int64(due))
	}
	return nil
}
