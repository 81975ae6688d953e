package bus

import (
	"fmt"
	"strconv"
	"strings"
)

// command is one of those that are carried.
type command struct {
	args      int  // with its own name; negative: at least so many. As Redis counts them
	stranger  bool // allowed to who has not said yet who it is
	listening bool // allowed in RESP 2 while subscribed, when answers and messages look alike
	run       func(c *conn, args [][]byte)

	sub func(name string) (args int, ok bool) // of its second word; nil: there is none
}

// find finds a command by its name in lower case. This is the whole table.
func find(name string) (command, bool) {
	switch name {
	case "publish":
		return command{args: 3, run: func(c *conn, a [][]byte) { c.publish(channel, a) }}, true
	case "spublish":
		return command{args: 3, run: func(c *conn, a [][]byte) { c.publish(shard, a) }}, true
	case "subscribe":
		return command{args: -2, listening: true, run: func(c *conn, a [][]byte) { c.subscribe(channel, a) }}, true
	case "psubscribe":
		return command{args: -2, listening: true, run: func(c *conn, a [][]byte) { c.subscribe(pattern, a) }}, true
	case "ssubscribe":
		return command{args: -2, listening: true, run: func(c *conn, a [][]byte) { c.subscribe(shard, a) }}, true
	case "unsubscribe":
		return command{args: -1, listening: true, run: func(c *conn, a [][]byte) { c.unsubscribe(channel, a) }}, true
	case "punsubscribe":
		return command{args: -1, listening: true, run: func(c *conn, a [][]byte) { c.unsubscribe(pattern, a) }}, true
	case "sunsubscribe":
		return command{args: -1, listening: true, run: func(c *conn, a [][]byte) { c.unsubscribe(shard, a) }}, true
	case "pubsub":
		return command{args: -2, run: (*conn).pubsub, sub: pubsubWord}, true
	case "ping":
		return command{args: -1, listening: true, run: (*conn).ping}, true
	case "echo":
		return command{args: 2, run: func(c *conn, a [][]byte) { c.out = appendBulk(c.out, a[1]) }}, true
	case "auth":
		return command{args: -2, stranger: true, run: (*conn).auth}, true
	case "hello":
		return command{args: -1, stranger: true, run: (*conn).hello}, true
	case "select":
		return command{args: 2, run: (*conn).selectDB}, true
	case "client":
		return command{args: -2, run: (*conn).client, sub: clientWord}, true
	case "info":
		return command{args: -1, run: (*conn).info}, true
	case "quit":
		return command{args: -1, stranger: true, listening: true, run: (*conn).quit}, true
	case "reset":
		return command{args: 1, stranger: true, listening: true, run: (*conn).reset}, true
	}
	return command{}, false
}

// only is what everybody is told who wants more than messages.
const only = "this endpoint carries messages only (PUBLISH, SUBSCRIBE and their kin); " +
	"`holdfast serve --redis redis://HOST:PORT` connects apps to a real Redis or Valkey"

// wordMax is how much of a client's own words an error repeats.
const wordMax = 64

func shorten(word []byte) string {
	if len(word) > wordMax {
		word = word[:wordMax]
	}
	return string(word)
}

func (c *conn) fail(format string, args ...any) {
	c.out = appendError(c.out, fmt.Sprintf(format, args...))
}

func (c *conn) ok() { c.out = appendSimple(c.out, "OK") }

// command answers one command, in the order in which Redis looks for faults.
func (c *conn) command(args [][]byte) {
	name := lower(args[0])
	cmd, ok := find(name)
	full, want, word := name, cmd.args, true
	if ok && cmd.sub != nil && len(args) > 1 {
		second := lower(args[1])
		full += "|" + second
		want, word = cmd.sub(second)
	}
	switch {
	case !ok:
		c.fail("ERR unknown command '%s': %s", shorten(args[0]), only)
	case !word:
		c.fail("ERR unknown subcommand '%s' of %s: %s", shorten(args[1]), strings.ToUpper(name), only)
	case !fits(want, len(args)):
		c.fail("ERR wrong number of arguments for '%s' command", full)
	case !c.known && !cmd.stranger:
		c.fail("NOAUTH Authentication required.")
	case c.proto == 2 && !cmd.listening && c.subscribed():
		c.fail("ERR Can't execute '%s': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context", full)
	default:
		cmd.run(c, args)
	}
}

// lower is a command's name as it is found; a long one is none.
func lower(word []byte) string { return strings.ToLower(shorten(word)) }

func fits(want, got int) bool { return got == want || want < 0 && got >= -want }

func (c *conn) publish(k kind, args [][]byte) {
	if len(args[1]) > nameBytesMax {
		c.fail("ERR a name of %d bytes is too long here: at most %d", len(args[1]), nameBytesMax)
		return
	}
	if c.subscribed() {
		c.pass() // it may get the message itself, and earlier answers come first
	}
	c.out = appendInt(c.out, c.space.publish(k, args[1], args[2]))
}

func (c *conn) subscribe(k kind, args [][]byte) {
	for _, name := range args[1:] {
		if refused := c.space.subscribe(c, k, string(name)); refused != "" {
			c.fail("%s", refused)
			return
		}
	}
}

func (c *conn) unsubscribe(k kind, args [][]byte) {
	for _, name := range args[1:] {
		c.space.unsubscribe(c, k, string(name))
	}
	if len(args) > 1 {
		return
	}
	if len(c.names[k]) == 0 {
		c.tell(k.unsubscribed(), nil, c.count(k))
	}
	for name := range c.names[k] {
		c.space.unsubscribe(c, k, name)
	}
}

func pubsubWord(name string) (args int, ok bool) {
	switch name {
	case "channels", "shardchannels", "numsub", "shardnumsub":
		return -2, true
	case "numpat", "help":
		return 2, true
	}
	return 0, false
}

func (c *conn) pubsub(args [][]byte) {
	sub := lower(args[1])
	k := channel
	if strings.HasPrefix(sub, "shard") {
		k = shard
	}
	switch sub {
	case "channels", "shardchannels":
		if len(args) > 3 {
			c.fail("ERR unknown subcommand or wrong number of arguments for '%s'. Try PUBSUB HELP.", shorten(args[1]))
			return
		}
		var like *string
		if len(args) == 3 {
			if len(args[2]) > patternBytesMax {
				c.fail("ERR a name of %d bytes is too long here: at most %d", len(args[2]), patternBytesMax)
				return
			}
			text := string(args[2])
			like = &text
		}
		names := c.space.active(k, like)
		c.out = appendArray(c.out, len(names))
		for _, name := range names {
			c.out = appendBulk(c.out, name)
		}
	case "numsub", "shardnumsub":
		c.out = appendArray(c.out, 2*(len(args)-2))
		for _, name := range args[2:] {
			c.out = appendBulk(c.out, name)
			c.out = appendInt(c.out, c.space.subscribers(k, string(name)))
		}
	case "numpat":
		c.out = appendInt(c.out, c.space.patterns())
	case "help":
		lines := []string{"PUBSUB CHANNELS [pattern]", "PUBSUB NUMSUB [channel ...]", "PUBSUB NUMPAT", "PUBSUB SHARDCHANNELS [pattern]", "PUBSUB SHARDNUMSUB [channel ...]"}
		c.out = appendArray(c.out, len(lines))
		for _, l := range lines {
			c.out = appendSimple(c.out, l)
		}
	}
}

func (c *conn) ping(args [][]byte) {
	switch {
	case len(args) > 2:
		c.fail("ERR wrong number of arguments for 'ping' command")
	case c.proto == 2 && c.subscribed():
		c.out = appendArray(c.out, 2)
		c.out = appendBulk(c.out, "pong")
		if len(args) == 2 {
			c.out = appendBulk(c.out, args[1])
		} else {
			c.out = appendBulk(c.out, "")
		}
	case len(args) == 2:
		c.out = appendBulk(c.out, args[1])
	default:
		c.out = appendSimple(c.out, "PONG")
	}
}

// selectDB takes what Redis takes: messages know no databases.
func (c *conn) selectDB(args [][]byte) {
	const databases = 16
	n, err := strconv.Atoi(string(args[1]))
	switch {
	case err != nil:
		c.fail("ERR value is not an integer or out of range")
	case n < 0 || n >= databases:
		c.fail("ERR DB index is out of range")
	default:
		c.ok()
	}
}

func (c *conn) quit([][]byte) {
	c.ok()
	c.leaving = true
}
