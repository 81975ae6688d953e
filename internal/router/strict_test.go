package router

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// strange are requests as bytes, and what becomes of each: "400" is that answer
// and a closed connection; another status is that of the first answer, "" any.
// reaches is how many whole requests the app gets. HOST is a header.
var strange = []struct {
	rule, raw, want string
	reaches         int
}{
	// What is in order.
	{"the simplest", "GET / HTTP/1.1\r\nHOST\r\n\r\n", "200", 1},
	{"HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", "200", 1},
	{"HTTP/1.0 with a host", "GET / HTTP/1.0\r\nHOST\r\n\r\n", "200", 1},
	{"blanks around a value", "GET / HTTP/1.1\r\nHost: \t localhost\t \r\n\r\n", "200", 1},
	{"no blank before a value", "GET / HTTP/1.1\r\nHost:localhost\r\n\r\n", "200", 1},
	{"an empty value", "GET / HTTP/1.1\r\nHOST\r\nX-Empty:\r\n\r\n", "200", 1},
	{"a name of all allowed bytes", "GET / HTTP/1.1\r\nHOST\r\n!#$%&'*+-.^_`|~9aZ: x\r\n\r\n", "200", 1},
	{"a value of other bytes", "GET / HTTP/1.1\r\nHOST\r\nX: \x80\xff caf\xc3\xa9\r\n\r\n", "200", 1},
	{"a tab within a value", "GET / HTTP/1.1\r\nHOST\r\nX: a\tb\r\n\r\n", "200", 1},
	{"a method nobody knows", "BREW / HTTP/1.1\r\nHOST\r\n\r\n", "200", 1},
	{"a small method", "get / HTTP/1.1\r\nHOST\r\n\r\n", "200", 1},
	{"a body", "POST / HTTP/1.1\r\nHOST\r\nContent-Length: 5\r\n\r\nhello", "200", 1},
	{"a body of nothing", "POST / HTTP/1.1\r\nHOST\r\nContent-Length: 0\r\n\r\n", "200", 1},
	{"zeros before a length", "POST / HTTP/1.1\r\nHOST\r\nContent-Length: 005\r\n\r\nhello", "200", 1},
	{"chunks", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "200", 1},
	{"Chunked", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "200", 1},
	{"zeros before a chunk's size", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n0005\r\nhello\r\n000\r\n\r\n", "200", 1},
	{"a chunk's size in either case", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", "200", 1},
	{"chunk extensions", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n5;a;b=c;d=\"e\\\"\"\r\nhello\r\n0;last\r\n\r\n", "200", 1},
	{"a trailer", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", "200", 1},
	{"a GET with a body", "GET / HTTP/1.1\r\nHOST\r\nContent-Length: 5\r\n\r\nhello", "200", 1},
	{"two at once", "GET /1 HTTP/1.1\r\nHOST\r\n\r\nGET /2 HTTP/1.1\r\nHOST\r\n\r\n", "200", 2},
	{"two at once, behind a body", "POST /1 HTTP/1.1\r\nHOST\r\nContent-Length: 5\r\n\r\nhelloGET /2 HTTP/1.1\r\nHOST\r\n\r\n", "200", 2},
	{"two at once, behind chunks", "POST /1 HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /2 HTTP/1.1\r\nHOST\r\n\r\n", "200", 2},
	{"a good one, then a bad one", "GET /1 HTTP/1.1\r\nHOST\r\n\r\nGET /2 HTTP/1.1\r\nHOST\r\nX : y\r\n\r\n", "200", 1},
	{"absolute form", "GET http://localhost/ HTTP/1.1\r\nHOST\r\n\r\n", "200", 1},
	{"absolute form, another case", "GET HTTP://LocalHost/ HTTP/1.1\r\nHOST\r\n\r\n", "200", 1},
	{"absolute form without a path", "GET http://localhost HTTP/1.1\r\nHOST\r\n\r\n", "200", 1},
	{"absolute form, a query alone", "GET http://localhost?a HTTP/1.1\r\nHOST\r\n\r\n", "200", 1},
	{"absolute form, https", "GET https://localhost/ HTTP/1.1\r\nHOST\r\n\r\n", "200", 1},
	{"absolute form with a port", "GET http://localhost:80/ HTTP/1.1\r\nHost: localhost:80\r\n\r\n", "200", 1},
	{"the server itself", "OPTIONS * HTTP/1.1\r\nHOST\r\n\r\n", "200", 0},
	{"raw bytes in a path", "GET /caf\xc3\xa9 HTTP/1.1\r\nHOST\r\n\r\n", "200", 1},
	{"a path of odd bytes", "GET /\"<>\\^`{|} HTTP/1.1\r\nHOST\r\n\r\n", "200", 1},
	{"an address as host", "GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n", "200", 1},
	{"an IPv6 address as host", "GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", "200", 1},
	{"a port of nothing", "GET / HTTP/1.1\r\nHost: localhost:\r\n\r\n", "200", 1},
	{"an upgrade to something else", "GET / HTTP/1.1\r\nHOST\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", "200", 1},
	{"an upgrade that Connection does not name", "POST / HTTP/1.1\r\nHOST\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nhi", "200", 1},
	{"an upgrade in HTTP/1.0", "GET / HTTP/1.0\r\nHOST\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "200", 1},
	{"a cookie with odd bytes", "GET / HTTP/1.1\r\nHOST\r\nCookie: a=\"b c\"; d={\"e\":1}\r\n\r\n", "200", 1},
	{"the same header twice", "GET / HTTP/1.1\r\nHOST\r\nX: 1\r\nX: 2\r\n\r\n", "200", 1},
	{"an expectation", "POST / HTTP/1.1\r\nHOST\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", "", 1},
	{"another host", "GET / HTTP/1.1\r\nHost: elsewhere.example.org\r\n\r\n", "404", 0},
	{"CONNECT", "CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n\r\n", "405", 0},
	{"an expectation that nobody has", "GET / HTTP/1.1\r\nHOST\r\nExpect: money\r\n\r\n", "417", 0},
	{"longer headers than App Engine takes", "GET / HTTP/1.1\r\nHOST\r\nX: " + strings.Repeat("x", 16<<10) + "\r\n\r\n", "431", 0},
	{"as long, in many lines", "GET / HTTP/1.1\r\nHOST\r\n" + strings.Repeat("X: xxxxxxxxxxxxxx\r\n", 1<<10) + "\r\n", "431", 0},
	{"a longer body than is taken", "POST / HTTP/1.1\r\nHOST\r\nContent-Length: 40000000\r\n\r\n", "413", 0},
	{"a longer body than anybody has", "POST / HTTP/1.1\r\nHOST\r\nContent-Length: 999999999999999999\r\n\r\n", "413", 0},

	// Where a message ends.
	{"a length and chunks", "POST / HTTP/1.1\r\nHOST\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400", 0},
	{"chunks and a length", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "400", 0},
	{"chunks and a length of nothing", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n", "400", 0},
	{"two lengths", "POST / HTTP/1.1\r\nHOST\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "400", 0},
	{"the same length twice", "POST / HTTP/1.1\r\nHOST\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "400", 0},
	{"the same length in a list", "POST / HTTP/1.1\r\nHOST\r\nContent-Length: 5, 5\r\n\r\nhello", "400", 0},
	{"a signed length", "POST / HTTP/1.1\r\nHOST\r\nContent-Length: +5\r\n\r\nhello", "400", 0},
	{"a negative length", "POST / HTTP/1.1\r\nHOST\r\nContent-Length: -5\r\n\r\nhello", "400", 0},
	{"a negative nothing", "POST / HTTP/1.1\r\nHOST\r\nContent-Length: -0\r\n\r\n", "400", 0},
	{"an empty length", "POST / HTTP/1.1\r\nHOST\r\nContent-Length:\r\n\r\n", "400", 0},
	{"a length of blanks", "POST / HTTP/1.1\r\nHOST\r\nContent-Length: \t \r\n\r\n", "400", 0},
	{"a hexadecimal length", "POST / HTTP/1.1\r\nHOST\r\nContent-Length: 0x5\r\n\r\nhello", "400", 0},
	{"a length with a fraction", "POST / HTTP/1.1\r\nHOST\r\nContent-Length: 5.0\r\n\r\nhello", "400", 0},
	{"a length with an exponent", "POST / HTTP/1.1\r\nHOST\r\nContent-Length: 5e0\r\n\r\nhello", "400", 0},
	{"a length with an underscore", "POST / HTTP/1.1\r\nHOST\r\nContent-Length: 1_0\r\n\r\nhellohello", "400", 0},
	{"a length with a blank in it", "POST / HTTP/1.1\r\nHOST\r\nContent-Length: 1 0\r\n\r\nhellohello", "400", 0},
	{"a length in quotes", "POST / HTTP/1.1\r\nHOST\r\nContent-Length: \"5\"\r\n\r\nhello", "400", 0},
	{"a length and a comment", "POST / HTTP/1.1\r\nHOST\r\nContent-Length: 5 (five)\r\n\r\nhello", "400", 0},
	{"a length and a semicolon", "POST / HTTP/1.1\r\nHOST\r\nContent-Length: 5;\r\n\r\nhello", "400", 0},
	{"a length in other digits", "POST / HTTP/1.1\r\nHOST\r\nContent-Length: \xd9\xa5\r\n\r\nhello", "400", 0},
	{"a length beyond 63 bits", "POST / HTTP/1.1\r\nHOST\r\nContent-Length: 9223372036854775808\r\n\r\n", "400", 0},
	{"a length beyond 64 bits", "POST / HTTP/1.1\r\nHOST\r\nContent-Length: 18446744073709551621\r\n\r\nhello", "400", 0},
	{"a length that means no number", "POST / HTTP/1.1\r\nHOST\r\nContent-Length: five\r\n\r\nhello", "400", 0},
	{"a length as CGI writes it", "POST / HTTP/1.1\r\nHOST\r\nContent_Length: 5\r\n\r\n", "400", 0},
	{"a coding as CGI writes it", "POST / HTTP/1.1\r\nHOST\r\nTransfer_Encoding: chunked\r\n\r\n", "400", 0},
	{"a length in HTTP/1.0, twice", "POST / HTTP/1.0\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "400", 0},

	{"chunks in HTTP/1.0", "POST / HTTP/1.0\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400", 0},
	{"chunked twice", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400", 0},
	{"chunked twice in a list", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", "400", 0},
	{"chunked and identity", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", "400", 0},
	{"identity", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello", "400", 0},
	{"gzip, chunked", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "400", 0},
	{"chunked, gzip", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", "400", 0},
	{"an empty coding", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding:\r\n\r\n", "400", 0},
	{"an empty coding and a length", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding:\r\nContent-Length: 5\r\n\r\nhello", "400", 0},
	{"a coding in quotes", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", "400", 0},
	{"a coding with a parameter", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", "400", 0},
	{"a coding behind a comma", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n", "400", 0},
	{"a coding before a comma", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked,\r\n\r\n0\r\n\r\n", "400", 0},
	{"a coding that nearly is chunked", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "400", 0},
	{"a coding behind a vertical tab", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n", "400", 0},
	{"a coding behind a form feed", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: \fchunked\r\n\r\n0\r\n\r\n", "400", 0},
	{"a coding behind a NUL", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: \x00chunked\r\n\r\n0\r\n\r\n", "400", 0},
	{"a coding with another k", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chun\xe2\x84\xaaed\r\n\r\n0\r\n\r\n", "400", 0},
	{"a name with another k", "POST / HTTP/1.1\r\nHOST\r\n\xe2\x84\xaa: x\r\n\r\n", "400", 0},
	{"a blank before a coding's colon", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", "400", 0},
	{"a tab before a coding's colon", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", "400", 0},
	{"a blank before a length's colon", "POST / HTTP/1.1\r\nHOST\r\nContent-Length : 5\r\n\r\nhello", "400", 0},
	{"a folded coding", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", "400", 0},
	{"a folded length", "POST / HTTP/1.1\r\nHOST\r\nContent-Length:\r\n\t5\r\n\r\nhello", "400", 0},

	// Chunks. The app has the head already, and hears that no more comes.
	{"a chunk's size that is none", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\nx\r\nhello\r\n0\r\n\r\n", "400", 0},
	{"an empty chunk's size", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n\r\nhello\r\n0\r\n\r\n", "400", 0},
	{"a chunk's size of 0x", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", "400", 0},
	{"a signed chunk's size", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n", "400", 0},
	{"a negative chunk's size", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n", "400", 0},
	{"a blank before a chunk's size", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n 5\r\nhello\r\n0\r\n\r\n", "400", 0},
	{"a blank behind a chunk's size", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n", "400", 0},
	{"a tab behind a chunk's size", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n5\t\r\nhello\r\n0\r\n\r\n", "400", 0},
	{"a chunk's size beyond 64 bits", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000005\r\nhello\r\n0\r\n\r\n", "400", 0},
	{"a chunk's size of many digits", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n00000000000000005\r\nhello\r\n0\r\n\r\n", "400", 0},
	{"a chunk's size with an underscore", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n1_0\r\n0123456789abcdef\r\n0\r\n\r\n", "400", 0},
	{"an LF behind a chunk's size", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n", "400", 0},
	{"a CR behind a chunk's size", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n5\rhello\r\n0\r\n\r\n", "400", 0},
	{"two CRs behind a chunk's size", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n5\r\r\nhello\r\n0\r\n\r\n", "400", 0},
	{"an LF behind a chunk", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\n0\r\n\r\n", "400", 0},
	{"nothing behind a chunk", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello0\r\n\r\n", "400", 0},
	{"something behind a chunk", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n", "400", 0},
	{"more behind a chunk", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello world\r\n0\r\n\r\n", "400", 0},
	{"an LF in a chunk extension", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n5;a\nhello\r\n0\r\n\r\n", "400", 0},
	{"a CR in a chunk extension", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n5;a\rb\r\nhello\r\n0\r\n\r\n", "400", 0},
	{"a blank before a chunk extension", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n5 ;a\r\nhello\r\n0\r\n\r\n", "400", 0},
	{"a chunk extension without a name", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n5;\r\nhello\r\n0\r\n\r\n", "400", 0},
	{"a chunk extension without a value", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n5;a=\r\nhello\r\n0\r\n\r\n", "400", 0},
	{"a chunk extension with an open quote", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n5;a=\"b\r\nhello\r\n0\r\n\r\n", "400", 0},
	{"a chunk extension that goes on in quotes", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n5;a=\"\r\nhello\r\n\"\r\nhello\r\n0\r\n\r\n", "400", 0},
	{"a NUL in a chunk extension", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n5;a\x00\r\nhello\r\n0\r\n\r\n", "400", 0},
	{"a long chunk extension", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n5;" + strings.Repeat("a", 300) + "\r\nhello\r\n0\r\n\r\n", "400", 0},
	{"an LF behind the last chunk", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\n\n", "400", 0},
	{"a trailer that says a length", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n", "400", 0},
	{"a trailer that says a coding", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", "400", 0},
	{"a trailer that says a host", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nHost: elsewhere\r\n\r\n", "400", 0},
	{"a trailer without a colon", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX\r\n\r\n", "400", 0},
	{"a folded trailer", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: a\r\n b\r\n\r\n", "400", 0},
	{"a trailer that ends in LF", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: a\n\r\n", "400", 0},
	{"longer trailers than anybody has", "POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n" + strings.Repeat("X: xxxxxxxxxxxxxx\r\n", 400) + "\r\n", "400", 0},

	// The line that begins a request.
	{"nothing but a line's end", "\r\nGET / HTTP/1.1\r\nHOST\r\n\r\n", "400", 0},
	{"an LF before", "\nGET / HTTP/1.1\r\nHOST\r\n\r\n", "400", 0},
	{"a blank before", " GET / HTTP/1.1\r\nHOST\r\n\r\n", "400", 0},
	{"two blanks behind the method", "GET  / HTTP/1.1\r\nHOST\r\n\r\n", "400", 0},
	{"two blanks behind the target", "GET /  HTTP/1.1\r\nHOST\r\n\r\n", "400", 0},
	{"a blank behind the version", "GET / HTTP/1.1 \r\nHOST\r\n\r\n", "400", 0},
	{"a tab behind the method", "GET\t/ HTTP/1.1\r\nHOST\r\n\r\n", "400", 0},
	{"a tab behind the target", "GET /\tHTTP/1.1\r\nHOST\r\n\r\n", "400", 0},
	{"a blank in the target", "GET /a b HTTP/1.1\r\nHOST\r\n\r\n", "400", 0},
	{"a NUL in the target", "GET /a\x00b HTTP/1.1\r\nHOST\r\n\r\n", "400", 0},
	{"a DEL in the target", "GET /a\x7fb HTTP/1.1\r\nHOST\r\n\r\n", "400", 0},
	{"a CR in the target", "GET /a\rb HTTP/1.1\r\nHOST\r\n\r\n", "400", 0},
	{"a fragment", "GET /a#b HTTP/1.1\r\nHOST\r\n\r\n", "400", 0},
	{"no target", "GET HTTP/1.1\r\nHOST\r\n\r\n", "400", 0},
	{"an empty target", "GET  HTTP/1.1\r\nHOST\r\n\r\n", "400", 0},
	{"a target without a slash", "GET a HTTP/1.1\r\nHOST\r\n\r\n", "400", 0},
	{"a target that is a query", "GET ?a HTTP/1.1\r\nHOST\r\n\r\n", "400", 0},
	{"an asterisk, for one thing", "GET * HTTP/1.1\r\nHOST\r\n\r\n", "400", 0},
	{"a host as target", "GET localhost:80 HTTP/1.1\r\nHOST\r\n\r\n", "400", 0},
	{"no version", "GET /\r\nHOST\r\n\r\n", "400", 0},
	{"no version, and a blank", "GET / \r\nHOST\r\n\r\n", "400", 0},
	{"HTTP/0.9", "GET / HTTP/0.9\r\nHOST\r\n\r\n", "400", 0},
	{"HTTP/1.2", "GET / HTTP/1.2\r\nHOST\r\n\r\n", "400", 0},
	{"HTTP/1.10", "GET / HTTP/1.10\r\nHOST\r\n\r\n", "400", 0},
	{"HTTP/01.1", "GET / HTTP/01.1\r\nHOST\r\n\r\n", "400", 0},
	{"HTTP/1", "GET / HTTP/1\r\nHOST\r\n\r\n", "400", 0},
	{"HTTP/2.0", "GET / HTTP/2.0\r\nHOST\r\n\r\n", "400", 0},
	{"HTTP/2 without TLS", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400", 0},
	{"http/1.1", "GET / http/1.1\r\nHOST\r\n\r\n", "400", 0},
	{"another protocol", "GET / ICY/1.1\r\nHOST\r\n\r\n", "400", 0},
	{"a method with a colon", "G:T / HTTP/1.1\r\nHOST\r\n\r\n", "400", 0},
	{"a method with a NUL", "G\x00T / HTTP/1.1\r\nHOST\r\n\r\n", "400", 0},
	{"a method with an umlaut", "G\xc3\x84T / HTTP/1.1\r\nHOST\r\n\r\n", "400", 0},
	{"no method", " / HTTP/1.1\r\nHOST\r\n\r\n", "400", 0},
	{"an LF at its end", "GET / HTTP/1.1\nHOST\r\n\r\n", "400", 0},
	{"two CRs at its end", "GET / HTTP/1.1\r\r\nHOST\r\n\r\n", "400", 0},
	{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400", 0},

	// Headers.
	{"an LF at a header's end", "GET / HTTP/1.1\r\nHost: localhost\nX: y\r\n\r\n", "400", 0},
	{"LFs as the end of all", "GET / HTTP/1.1\r\nHost: localhost\n\n", "400", 0},
	{"an LF as the end of all", "GET / HTTP/1.1\r\nHOST\r\n\n", "400", 0},
	{"a CR alone at a header's end", "GET / HTTP/1.1\r\nHost: localhost\rX: y\r\n\r\n", "400", 0},
	{"a CR in a value", "GET / HTTP/1.1\r\nHOST\r\nX: a\rb\r\n\r\n", "400", 0},
	{"two CRs at a header's end", "GET / HTTP/1.1\r\nHOST\r\nX: a\r\r\n\r\n", "400", 0},
	{"a NUL in a value", "GET / HTTP/1.1\r\nHOST\r\nX: a\x00b\r\n\r\n", "400", 0},
	{"a bell in a value", "GET / HTTP/1.1\r\nHOST\r\nX: a\ab\r\n\r\n", "400", 0},
	{"an escape in a value", "GET / HTTP/1.1\r\nHOST\r\nX: \x1b[2J\r\n\r\n", "400", 0},
	{"a DEL in a value", "GET / HTTP/1.1\r\nHOST\r\nX: a\x7fb\r\n\r\n", "400", 0},
	{"a NUL in a name", "GET / HTTP/1.1\r\nHOST\r\nX\x00Y: a\r\n\r\n", "400", 0},
	{"a blank in a name", "GET / HTTP/1.1\r\nHOST\r\nX Y: a\r\n\r\n", "400", 0},
	{"a blank before a colon", "GET / HTTP/1.1\r\nHOST\r\nX : a\r\n\r\n", "400", 0},
	{"a blank before Host's colon", "GET / HTTP/1.1\r\nHost : localhost\r\n\r\n", "400", 0},
	{"a tab before a colon", "GET / HTTP/1.1\r\nHOST\r\nX\t: a\r\n\r\n", "400", 0},
	{"a name in other letters", "GET / HTTP/1.1\r\nHOST\r\n\xc3\xa9: a\r\n\r\n", "400", 0},
	{"a name with a slash", "GET / HTTP/1.1\r\nHOST\r\nX/Y: a\r\n\r\n", "400", 0},
	{"a name in brackets", "GET / HTTP/1.1\r\nHOST\r\n(X): a\r\n\r\n", "400", 0},
	{"a name in quotes", "GET / HTTP/1.1\r\nHOST\r\n\"X\": a\r\n\r\n", "400", 0},
	{"no name", "GET / HTTP/1.1\r\nHOST\r\n: a\r\n\r\n", "400", 0},
	{"no colon", "GET / HTTP/1.1\r\nHOST\r\nX\r\n\r\n", "400", 0},
	{"a folded header", "GET / HTTP/1.1\r\nHOST\r\nX: a\r\n b\r\n\r\n", "400", 0},
	{"a header folded by a tab", "GET / HTTP/1.1\r\nHOST\r\nX: a\r\n\tb\r\n\r\n", "400", 0},
	{"a header folded to nothing", "GET / HTTP/1.1\r\nHOST\r\nX: a\r\n \r\n\r\n", "400", 0},
	{"a blank before the first header", "GET / HTTP/1.1\r\n Host: localhost\r\n\r\n", "400", 0},
	{"a line of blanks before the headers", "GET / HTTP/1.1\r\n \r\nHOST\r\n\r\n", "400", 0},

	// Whose it is.
	{"no host", "GET / HTTP/1.1\r\n\r\n", "400", 0},
	{"two hosts", "GET / HTTP/1.1\r\nHOST\r\nHost: elsewhere\r\n\r\n", "400", 0},
	{"the same host twice", "GET / HTTP/1.1\r\nHOST\r\nHOST\r\n\r\n", "400", 0},
	{"two hosts in HTTP/1.0", "GET / HTTP/1.0\r\nHOST\r\nHost: elsewhere\r\n\r\n", "400", 0},
	{"two hosts in a list", "GET / HTTP/1.1\r\nHost: localhost, elsewhere\r\n\r\n", "400", 0},
	{"a host with a path", "GET / HTTP/1.1\r\nHost: localhost/x\r\n\r\n", "400", 0},
	{"a host with a user", "GET / HTTP/1.1\r\nHost: me@localhost\r\n\r\n", "400", 0},
	{"a host with a blank", "GET / HTTP/1.1\r\nHost: local host\r\n\r\n", "400", 0},
	{"a host with a query", "GET / HTTP/1.1\r\nHost: localhost?x\r\n\r\n", "400", 0},
	{"a host with a fragment", "GET / HTTP/1.1\r\nHost: localhost#x\r\n\r\n", "400", 0},
	{"a host with a backslash", "GET / HTTP/1.1\r\nHost: localhost\\x\r\n\r\n", "400", 0},
	{"a host that is encoded", "GET / HTTP/1.1\r\nHost: local%68ost\r\n\r\n", "400", 0},
	{"a host in other letters", "GET / HTTP/1.1\r\nHost: l\xc3\xb6calhost\r\n\r\n", "400", 0},
	{"a host that is a URL", "GET / HTTP/1.1\r\nHost: http://localhost/\r\n\r\n", "400", 0},
	{"a port that is none", "GET / HTTP/1.1\r\nHost: localhost:80x\r\n\r\n", "400", 0},
	{"two ports", "GET / HTTP/1.1\r\nHost: localhost:80:81\r\n\r\n", "400", 0},
	{"a port of many digits", "GET / HTTP/1.1\r\nHost: localhost:000080\r\n\r\n", "400", 0},
	{"a signed port", "GET / HTTP/1.1\r\nHost: localhost:+80\r\n\r\n", "400", 0},
	{"a bracket alone", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", "400", 0},
	{"brackets around nothing", "GET / HTTP/1.1\r\nHost: []\r\n\r\n", "400", 0},
	{"brackets around a name", "GET / HTTP/1.1\r\nHost: [localhost]\r\n\r\n", "400", 0},
	{"something behind the brackets", "GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n", "400", 0},
	{"a host as CGI writes it", "GET / HTTP/1.1\r\nHOST\r\nHo_st: x\r\n\r\n", "200", 1},
	{"absolute form and another host", "GET http://elsewhere/ HTTP/1.1\r\nHOST\r\n\r\n", "400", 0},
	{"absolute form and another port", "GET http://localhost:81/ HTTP/1.1\r\nHost: localhost:80\r\n\r\n", "400", 0},
	{"absolute form with a port, Host without", "GET http://localhost:80/ HTTP/1.1\r\nHOST\r\n\r\n", "400", 0},
	{"absolute form and no host", "GET http://localhost/ HTTP/1.1\r\n\r\n", "400", 0},
	{"absolute form and an empty host", "GET http://localhost/ HTTP/1.1\r\nHost:\r\n\r\n", "400", 0},
	{"absolute form with a user", "GET http://me@localhost/ HTTP/1.1\r\nHOST\r\n\r\n", "400", 0},
	{"absolute form without an authority", "GET http:/// HTTP/1.1\r\nHOST\r\n\r\n", "400", 0},
	{"absolute form without slashes", "GET http:localhost/ HTTP/1.1\r\nHOST\r\n\r\n", "400", 0},
	{"absolute form, another scheme", "GET ftp://localhost/ HTTP/1.1\r\nHOST\r\n\r\n", "400", 0},
	{"absolute form, a script", "GET javascript://localhost/ HTTP/1.1\r\nHOST\r\n\r\n", "400", 0},
	{"absolute form with a backslash", "GET http://localhost\\@elsewhere/ HTTP/1.1\r\nHOST\r\n\r\n", "400", 0},
	{"CONNECT to another host", "CONNECT elsewhere:443 HTTP/1.1\r\nHOST\r\n\r\n", "400", 0},
	{"CONNECT to a path", "CONNECT / HTTP/1.1\r\nHOST\r\n\r\n", "400", 0},

	// What it is to become.
	{"an upgrade with a body", "GET / HTTP/1.1\r\nHOST\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 5\r\n\r\nhello", "400", 0},
	{"an upgrade with chunks", "GET / HTTP/1.1\r\nHOST\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400", 0},
	{"an upgrade to something else, with a body", "POST / HTTP/1.1\r\nHOST\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 5\r\n\r\nhello", "400", 0},
	{"an upgrade asked for twice", "GET / HTTP/1.1\r\nHOST\r\nUpgrade: websocket\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "400", 0},
	{"two upgrades", "GET / HTTP/1.1\r\nHOST\r\nUpgrade: websocket\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", "400", 0},
	{"two keys", hello + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", "400", 0},
	{"two versions", hello + "Sec-WebSocket-Version: 13\r\n\r\n", "400", 0},
}

// Whatever comes, on whichever kind of connection, in one piece or byte by byte.
func TestStrangeRequests(t *testing.T) {
	if len(strange) < 150 {
		t.Fatalf("%d requests; 150 are promised", len(strange))
	}
	for name, open := range map[string]func(*testing.T, Config) *front{"plain": newFront, "tls": overHTTP2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var reached atomic.Int64
			f := open(t, Config{})
			f.serve(Pool{}, func(w http.ResponseWriter, r *http.Request) {
				if _, err := io.Copy(io.Discard, r.Body); err == nil {
					reached.Add(1)
					fmt.Fprint(w, "served")
				}
			})
			for _, c := range strange {
				raw := strings.ReplaceAll(c.raw, "HOST\r\n", "Host: localhost\r\n")
				for _, step := range []int{len(raw), 1} {
					if step == 1 && (len(raw) > 1000 || name == "tls") {
						continue
					}
					reached.Store(0)
					status, closed, err := f.strange(raw, step, c.reaches)
					switch {
					case err != nil, c.want != "" && status != c.want, c.want == "400" && !closed:
						t.Errorf("%s, %d bytes at a time: %q, closed %v, %v; want %s", c.rule, step, status, closed, err, c.want)
					default:
						eventually(t, c.rule+" reaches the app as often as it should", func() bool { return reached.Load() == int64(c.reaches) })
					}
				}
			}
		})
	}
}

// strange sends bytes, so many at a time, waits for answers, and returns the
// status of the first and whether the connection was closed behind it.
func (f *front) strange(raw string, step, answers int) (status string, closed bool, err error) {
	conn, err := net.Dial("tcp", f.addr)
	if err != nil {
		return "", false, err
	}
	defer conn.Close()
	if strings.HasPrefix(f.url, "https") {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	}
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	for rest := raw; rest != ""; rest = rest[min(step, len(rest)):] {
		if _, err := io.WriteString(conn, rest[:min(step, len(rest))]); err != nil {
			break // it knows enough
		}
	}
	in := bufio.NewReader(conn)
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		return "", false, err
	}
	io.Copy(io.Discard, res.Body)
	for range answers - 1 { // who leaves is not served
		more, err := http.ReadResponse(in, nil)
		if err != nil {
			return "", false, err
		}
		io.Copy(io.Discard, more.Body)
	}
	if res.StatusCode == 400 {
		var more byte
		if more, err = in.ReadByte(); err == nil {
			return "400", false, fmt.Errorf("%q follows", more)
		}
		closed = err == io.EOF
	}
	if err == io.EOF {
		err = nil
	}
	return fmt.Sprint(res.StatusCode), closed, err
}
