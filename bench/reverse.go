//go:build linux

package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
)

// idleConns is how many connections to the instance the tuned one keeps: as
// many as nginx is told to.
const idleConns = 256

// reverseMain is the role "reverseproxy": Go's own, as its documentation shows
// it. Its arguments are a backend and "default" or "tuned": the default
// transport keeps two connections to a host, the tuned one keeps idleConns.
func reverseMain(args []string) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	target := &url.URL{Scheme: "http", Host: args[0]}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
			r.SetXForwarded()
		},
		ErrorLog: log.New(io.Discard, "", 0), // clients that leave
	}
	if args[1] == "tuned" {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxIdleConns, t.MaxIdleConnsPerHost = 0, idleConns
		proxy.Transport = t
	}
	return http.Serve(listener, proxy)
}
