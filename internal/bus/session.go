package bus

import (
	"fmt"
	"strconv"
	"strings"
)

// redisVersion is what we say when clients ask which Redis we are: the one
// whose protocol and messages we speak.
const redisVersion = "7.2.0"

func (c *conn) auth(args [][]byte) {
	switch len(args) {
	case 2:
		c.fail("WRONGPASS invalid username-password pair or user is disabled.") // there is no default user
	case 3:
		if refused := c.enter(args[1], args[2]); refused != "" {
			c.fail("%s", refused)
			return
		}
		c.ok()
	default:
		c.fail("ERR syntax error")
	}
}

// enter tells the bus who this is; what it returns is for the client.
func (c *conn) enter(user, password []byte) (refused string) {
	if refused = c.bus.enter(c, string(user), string(password)); refused == "" {
		c.setKnown(true)
	}
	return refused
}

// hello is the greeting that chooses a protocol: HELLO 3 AUTH user password
// SETNAME name.
func (c *conn) hello(args [][]byte) {
	proto := c.proto
	if len(args) > 1 {
		n, err := strconv.Atoi(string(args[1]))
		if err != nil {
			c.fail("ERR Protocol version is not an integer or out of range")
			return
		}
		if n != 2 && n != 3 {
			c.fail("NOPROTO unsupported protocol version")
			return
		}
		proto = n
	}
	name, named := c.name, false
	var user, password []byte
	for i := 2; i < len(args); i++ {
		switch left := len(args) - i - 1; {
		case strings.EqualFold(shorten(args[i]), "auth") && left >= 2:
			user, password = args[i+1], args[i+2]
			i += 2
		case strings.EqualFold(shorten(args[i]), "setname") && left >= 1:
			if !c.nameable(args[i+1]) {
				return
			}
			name, named = string(args[i+1]), true
			i++
		default:
			c.fail("ERR Syntax error in HELLO option '%s'", shorten(args[i]))
			return
		}
	}
	if user != nil {
		if refused := c.enter(user, password); refused != "" {
			c.fail("%s", refused)
			return
		}
	}
	if !c.known {
		c.fail("NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time")
		return
	}
	if named {
		c.name = name
	}
	c.speak(proto)
	c.out = appendMap(c.out, proto, 7)
	for _, pair := range [][2]string{{"server", "redis"}, {"version", redisVersion}} {
		c.out = appendBulk(c.out, pair[0])
		c.out = appendBulk(c.out, pair[1])
	}
	c.out = appendBulk(c.out, "proto")
	c.out = appendInt(c.out, proto)
	c.out = appendBulk(c.out, "id")
	c.out = appendInt(c.out, int(c.id))
	for _, pair := range [][2]string{{"mode", "standalone"}, {"role", "master"}} {
		c.out = appendBulk(c.out, pair[0])
		c.out = appendBulk(c.out, pair[1])
	}
	c.out = appendBulk(c.out, "modules")
	c.out = appendArray(c.out, 0)
}

// speak changes the protocol. Messages that are queued already stay as they
// are, and later ones come in the new one.
func (c *conn) speak(proto int) {
	c.mu.Lock()
	c.proto = proto
	c.mu.Unlock()
}

// nameable judges a connection's name and tells the client if it is none.
func (c *conn) nameable(name []byte) bool {
	for _, b := range name {
		if b < '!' || b > '~' || len(name) > nameBytesMax {
			c.fail("ERR Client names cannot contain spaces, newlines or special characters.")
			return false
		}
	}
	return true
}

func clientWord(name string) (args int, ok bool) {
	switch name {
	case "id", "info", "getname":
		return 2, true
	case "setname", "no-evict", "no-touch":
		return 3, true
	case "setinfo":
		return 4, true
	}
	return 0, false
}

// client is what libraries tell about themselves and ask about their
// connection.
func (c *conn) client(args [][]byte) {
	switch lower(args[1]) {
	case "id":
		c.out = appendInt(c.out, int(c.id))
	case "info":
		c.out = appendBulk(c.out, fmt.Sprintf("id=%d addr=%s laddr=%s name=%s db=0 sub=%d psub=%d ssub=%d user=%s resp=%d\n",
			c.id, c.net.RemoteAddr(), c.net.LocalAddr(), c.name, len(c.names[channel]), len(c.names[pattern]), len(c.names[shard]), c.space.app, c.proto))
	case "getname":
		if c.name == "" {
			c.out = appendNull(c.out, c.proto)
		} else {
			c.out = appendBulk(c.out, c.name)
		}
	case "setname":
		if c.nameable(args[2]) {
			c.name = string(args[2])
			c.ok()
		}
	case "setinfo":
		c.ok() // which library it is changes nothing
	default:
		if on := lower(args[2]); on != "on" && on != "off" {
			c.fail("ERR syntax error")
			return
		}
		c.ok() // nothing is evicted or touched here
	}
}

// info is there because ioredis and others wait for its "loading:0".
func (c *conn) info([][]byte) {
	c.out = appendBulk(c.out, "# Server\r\nredis_version:"+redisVersion+"\r\nredis_mode:standalone\r\n"+
		"# Persistence\r\nloading:0\r\n# Replication\r\nrole:master\r\n")
}

// reset makes the connection as new: a stranger's.
func (c *conn) reset([][]byte) {
	if c.space != nil {
		c.space.leave(c)
	}
	c.setKnown(false)
	c.speak(2)
	c.name = ""
	c.out = appendSimple(c.out, "RESET")
}
