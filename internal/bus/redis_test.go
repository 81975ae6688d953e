package bus

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// realRedis starts the server that is the judge, or skips.
func realRedis(t testing.TB) (addr string) {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		if program, err = exec.LookPath("valkey-server"); err != nil {
			t.Skip("neither redis-server nor valkey-server is here; e2e/needs.sh installs one")
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(addr)
	cmd := exec.CommandContext(t.Context(), program, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", t.TempDir())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Signal(os.Interrupt); cmd.Wait() })
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return addr
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not listen at %s", program, addr)
		}
	}
}

// The same commands, drawn at random, are given to a real Redis and to us, on
// several connections in both protocols. Every connection must see the same.
func TestWeAnswerAsRedisDoes(t *testing.T) {
	t.Parallel()
	redis := realRedis(t)
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			w := newWorld(t)
			rnd := rand.New(rand.NewPCG(seed, 7))
			const conns = 4
			var theirs, ours [conns]*client
			for i := range conns {
				theirs[i], ours[i] = dial(t, redis), w.join("shop")
			}
			var script []string
			for step := range 250 {
				i := rnd.IntN(conns)
				args := draw(rnd)
				script = append(script, fmt.Sprintf("%d: %q", i, args))
				theirs[i].send(args...)
				ours[i].send(args...)
				for j := range conns {
					// Messages to others have been queued when the sender is answered.
					want := theirs[(i+j)%conns].until(step)
					if args[0] == "RESET" && j == 0 {
						// Theirs has no password; ours wants it again.
						ours[i].gets("+RESET")
						ours[i].want("+OK", "AUTH", "shop", w.bus.Password("shop"))
						want = slices.DeleteFunc(want, func(s string) bool { return s == "+RESET" })
					}
					got := ours[(i+j)%conns].until(step)
					if loose(args) {
						scatter(want)
						scatter(got)
					}
					if !slices.Equal(got, want) {
						t.Fatalf("seed %d, connection %d after\n%s\ngot  %q\nwant %q", seed, (i+j)%conns,
							strings.Join(script[max(0, len(script)-12):], "\n"), got, want)
					}
				}
			}
			for i := range conns {
				theirs[i].net.Close() // the server is shared by the seeds
			}
			for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
				c := dial(t, redis)
				c.send("PUBSUB", "NUMPAT")
				a := c.reply()
				c.send("PUBSUB", "CHANNELS")
				b := c.reply()
				c.send("PUBSUB", "SHARDCHANNELS")
				if s := c.reply(); a == ":0" && b == "*[]" && s == "*[]" {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal("Redis keeps subscriptions of connections that are gone")
				}
			}
		})
	}
}

// until reads what has come, up to the answer to a PING of its own.
func (c *client) until(step int) (all []string) {
	c.t.Helper()
	mark := strconv.Quote(fmt.Sprint("step", step))
	c.send("PING", fmt.Sprint("step", step))
	for {
		r := c.reply()
		if r == mark || r == `*["pong" `+mark+`]` {
			return all
		}
		if strings.Contains(r, `"modules"`) { // of HELLO: version and id are each server's own
			r, _, _ = strings.Cut(r, `"version"`)
		}
		all = append(all, r)
	}
}

// loose are commands whose answers come in the order of a hash table.
func loose(args []string) bool {
	return len(args) == 1 && strings.Contains(args[0], "UNSUB") || args[0] == "PUBSUB" || args[0] == "PUBLISH"
}

// scatter makes answers comparable whatever their order: as a bag of words.
func scatter(all []string) {
	words := strings.Fields(strings.NewReplacer("[", " ", "]", " ").Replace(strings.Join(all, " ")))
	slices.Sort(words)
	clear(all)
	if len(all) > 0 {
		all[0] = strings.Join(words, " ")
	}
}

func draw(rnd *rand.Rand) []string {
	pick := func(list ...string) string { return list[rnd.IntN(len(list))] }
	name := func() string { return pick("a", "b", "ab", "abc", "", "b*", "\r\n", "é") }
	glob := func() string { return pick("*", "a*", "?", "[a-b]", "a?c", "[^a]", "\\*", "b\\*", "a", "") }
	several := func(of func() string, least int) (list []string) {
		for range least + rnd.IntN(3) {
			list = append(list, of())
		}
		return list
	}
	switch rnd.IntN(20) {
	case 0, 1:
		return append([]string{"SUBSCRIBE"}, several(name, 0)...)
	case 2:
		return append([]string{"PSUBSCRIBE"}, several(glob, 1)...)
	case 3:
		return append([]string{"SSUBSCRIBE"}, name())
	case 4:
		return append([]string{"UNSUBSCRIBE"}, several(name, 0)...)
	case 5:
		return append([]string{"PUNSUBSCRIBE"}, several(glob, 0)...)
	case 6:
		return append([]string{"SUNSUBSCRIBE"}, several(name, 0)...)
	case 7:
		return []string{"HELLO", pick("2", "3", "3", "4", "x")}
	case 8:
		return append([]string{"PUBSUB", pick("NUMSUB", "SHARDNUMSUB")}, several(name, 0)...)
	case 9:
		return append([]string{"PUBSUB", pick("CHANNELS", "channels", "SHARDCHANNELS")}, several(glob, 0)...)
	case 10:
		return append([]string{"PUBSUB", "NUMPAT"}, several(name, 0)...)
	case 11:
		return append([]string{"PING"}, several(name, 0)...)
	case 12:
		return append([]string{"SELECT"}, pick("0", "3", "16", "-1", "x"))
	case 13:
		return append([]string{"CLIENT"}, [][]string{{"GETNAME"}, {"SETNAME", "me"}, {"SETNAME", "a b"}, {"SETNAME"}, {"ID", "x"}, {"NO-EVICT", "on"}, {"NO-EVICT", "x"}}[rnd.IntN(7)]...)
	case 14:
		return []string{pick("RESET", "ECHO", "UNSUBSCRIBE", "PING")}
	case 15:
		return []string{"SPUBLISH", name(), pick("", "x", "y\x00z")}
	}
	return []string{"PUBLISH", name(), pick("", "x", "y\x00z", strings.Repeat("long", 50))}
}

// A pattern means what it means to Redis, a broken one as well.
func TestPatternsMatchAsRedisMatches(t *testing.T) {
	t.Parallel()
	redis := dial(t, realRedis(t))
	redis.send("HELLO", "3")
	redis.reply()
	rnd := rand.New(rand.NewPCG(3, 3))
	word := func(letters string, most int) string {
		b := make([]byte, rnd.IntN(most))
		for i := range b {
			b[i] = letters[rnd.IntN(len(letters))]
		}
		return string(b)
	}
	var names []string
	seen := map[string]bool{}
	for len(names) < 150 {
		if n := word(`abc-]^\*`, 6); !seen[n] {
			seen[n] = true
			names = append(names, n)
			redis.send("SUBSCRIBE", n)
			redis.reply()
		}
	}
	for range 3000 {
		p := word(`abc**??[[]^-\`, 9)
		redis.send("PUBSUB", "CHANNELS", p)
		got := redis.reply()
		for _, n := range names {
			want := strings.Contains(got+" ", strconv.Quote(n)+" ") || strings.Contains(got, strconv.Quote(n)+"]")
			if match(p, []byte(n)) != want {
				t.Fatalf("match(%q, %q) = %v, Redis says %v", p, n, !want, want)
			}
		}
	}
}
