// Package appyaml reads app.yaml into an app.Version: every default and every
// refusal of the file format is here, and nowhere else. It knows nothing of
// files, builds or machines; bytes come in, a value and messages for people go
// out. Start with schema.go, which shows the whole of app.yaml in one table.
//
// The way of a file: tree.go, with tokens.go, makes a small tree of the bytes
// and refuses what is hostile or beyond the YAML that App Engine's own client
// takes; schema.go says which reader takes which key; read.go has the readers
// of plain values, and one file each (general, network, resources, checks,
// scaling, beta) those that know more. All errors of a file are reported at once, but for errors of
// syntax, after which nothing can be said about the rest.
package appyaml

import "holdfast/internal/app"

// Parse reads an app.yaml. The name is only for messages. The version has
// every documented default; its App and Version, Artifact and CreatedAt are for
// others to set. Warnings are in the order of the file and may come together
// with an error. The error, if any, is of type Errors and matches
// app.ErrInvalid; the version is then zero. Any bytes may be given: hostile
// ones are refused in bounded time and memory.
func Parse(name string, data []byte) (app.Version, []Warning, error) {
	src := &source{name: name, least: `an app.yaml has at least "runtime:" and "env: flex"`}
	root := src.tree(data)
	if root == nil {
		return app.Version{}, nil, src.failure()
	}
	r := &reader{source: src, v: defaults(), seen: map[string]*node{}}
	r.table = r.schema()
	r.table.take(r, root)
	r.finish(root)
	if err := src.failure(); err != nil {
		return app.Version{}, src.sortedWarnings(), err
	}
	return r.v, src.sortedWarnings(), nil
}
