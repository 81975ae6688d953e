package cli

import (
	"archive/zip"
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/spelling"
)

// templates are the examples, one archive each: a test in the main package
// keeps them what examples/ holds, and decisions/0029 says why they are packed.
//
//go:embed templates/*.zip
var templates embed.FS

func newInit() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "init DIR --template NAME",
		Short: "Write a new app, a copy of one of the examples",
		Long: `Writes one of the examples into DIR, as an app of your own: it has the folder's name,
and everything in it may be changed. DIR is made if it is not there; one that has
something in it is left alone.

Templates:
` + templateList(),
		Example: "  holdfast init shop-talk --template chat-go\n  holdfast run shop-talk",
		Args:    exactly(1, "init takes one folder, the one to write the app into"),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
		RunE: func(cmd *cobra.Command, args []string) error { return initApp(args[0], name) },
	}
	cmd.Flags().StringVar(&name, "template", "", "the example to begin with")
	complete(cmd, "template", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return templateNames(), cobra.ShellCompDirectiveNoFileComp
	})
	return cmd
}

// initApp writes a template into a folder that is empty or not there.
func initApp(dir, name string) error {
	if names := templateNames(); !slices.Contains(names, name) {
		return misuse{noTemplate(name, names)}
	}
	full, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	there, err := os.ReadDir(full)
	switch {
	case err == nil && len(there) > 0:
		return &problem{what: fmt.Sprintf("%s is not empty: it has %s", shorten(dir), some(there)), next: "Name a folder that is empty or not there yet."}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return &problem{what: fmt.Sprintf("init: %v", err), next: "Name a folder that is empty or not there yet.", err: err}
	}
	files, err := openTemplate(name)
	if err != nil {
		return err
	}
	own := rename(files, projectFrom(filepath.Base(full)))
	n := 0
	err = fs.WalkDir(files, ".", func(file string, d fs.DirEntry, err error) error {
		to := filepath.Join(full, filepath.FromSlash(file))
		if err != nil || d.IsDir() {
			return errors.Join(err, os.MkdirAll(to, 0o777))
		}
		b, err := fs.ReadFile(files, file)
		if err != nil {
			return err
		}
		n++
		return os.WriteFile(to, own(file, b), 0o666)
	})
	if err != nil {
		return &problem{what: fmt.Sprintf("init: %v", err), next: "What was written until then is still in " + shorten(dir) + ".", err: err}
	}
	s := newScreen(os.Stdout)
	s.done("Wrote %s into %s, %s", name, shorten(dir), count(n, "file"))
	fmt.Fprintf(s.out, "  Run it:  holdfast run %s\n  Read on: %s\n", dir, filepath.Join(dir, "README.md"))
	return nil
}

// noTemplate says what there is, and what was probably meant: one that begins
// with what was written, or is spelt nearly so.
func noTemplate(name string, names []string) error {
	all := "there are " + strings.Join(names, ", ")
	if name == "" {
		return fmt.Errorf("init needs --template NAME; %s", all)
	}
	near, ok := spelling.Nearest(name, slices.Values(names))
	if i := slices.IndexFunc(names, func(n string) bool { return strings.HasPrefix(n, name) }); !ok && i >= 0 {
		near, ok = names[i], true
	}
	if ok {
		return fmt.Errorf("there is no template %q: did you mean %q? %s", name, near, strings.ToUpper(all[:1])+all[1:])
	}
	return fmt.Errorf("there is no template %q; %s", name, all)
}

// some names a few of the files that are in the way.
func some(there []fs.DirEntry) string {
	const few = 3
	var names []string
	for _, f := range there[:min(few, len(there))] {
		names = append(names, f.Name())
	}
	if more := len(there) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
}

// rename returns what gives a template's files an app's own name: in the module
// path and the imports of Go, in npm's package, and in the README.
func rename(files fs.FS, name string) func(file string, b []byte) []byte {
	was, _ := describe(files)
	module := ""
	if b, err := fs.ReadFile(files, "go.mod"); err == nil {
		line, _, _ := strings.Cut(string(b), "\n")
		module = strings.TrimPrefix(line, "module ")
	}
	// Go's own documentation begins the paths of modules that nobody publishes
	// so; without it, an app named sort would hide the standard library's.
	const nobodys = "example.com/"
	return func(file string, b []byte) []byte {
		var changes []string
		switch {
		case file == "go.mod":
			changes = []string{"module " + module + "\n", "module " + nobodys + name + "\n"}
		case path.Ext(file) == ".go" && module != "":
			changes = []string{`"` + module + `/`, `"` + nobodys + name + `/`}
		case file == "package.json", file == "package-lock.json":
			changes = []string{`"name": "` + was + `"`, `"name": "` + name + `"`}
		case file == "README.md":
			changes = []string{"# " + was + "\n", "# " + name + "\n", "examples/" + was, name}
		}
		return []byte(strings.NewReplacer(changes...).Replace(string(b)))
	}
}

func templateNames() (names []string) {
	all, err := templates.ReadDir("templates")
	if err != nil {
		panic(err) // the folder is part of the program
	}
	for _, f := range all {
		names = append(names, strings.TrimSuffix(f.Name(), ".zip"))
	}
	return names
}

func openTemplate(name string) (fs.FS, error) {
	b, err := templates.ReadFile("templates/" + name + ".zip")
	if err != nil {
		return nil, err
	}
	return zip.NewReader(bytes.NewReader(b), int64(len(b)))
}

// describe reads the head of a README: the example's own name, and the sentence
// that says what it is.
func describe(files fs.FS) (name, what string) {
	const headBytes = 1024
	f, err := files.Open("README.md")
	if err != nil {
		return "", ""
	}
	defer f.Close()
	head, err := io.ReadAll(io.LimitReader(f, headBytes))
	if err != nil {
		return "", ""
	}
	title, rest, _ := strings.Cut(string(head), "\n")
	what, _, _ = strings.Cut(strings.TrimSpace(rest), "\n")
	what, _, _ = strings.Cut(what, ". ")
	return strings.TrimPrefix(title, "# "), strings.TrimSuffix(what, ".")
}

// templateList is a line for each template.
func templateList() string {
	var list strings.Builder
	for _, name := range templateNames() {
		what := ""
		if files, err := openTemplate(name); err == nil {
			_, what = describe(files)
		}
		fmt.Fprintf(&list, "  %-12s %s\n", name, what)
	}
	return list.String()
}
