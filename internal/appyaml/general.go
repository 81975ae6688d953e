package appyaml

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"holdfast/internal/app"
	"holdfast/internal/spelling"
)

const (
	// maxVariableBytes is what Linux takes for one variable, its name and "="
	// included (MAX_ARG_STRLEN, with its final NUL).
	maxVariableBytes = 128<<10 - 1

	// maxPatternBytes and maxPatternsBytes bound the regular expressions of
	// skip_files, one and all: each is compiled, and asked about every file.
	maxPatternBytes  = 4 << 10
	maxPatternsBytes = 64 << 10
)

// runtimes are those of the flexible environment, by all their names.
var runtimes = map[string]string{
	"python": "python", "nodejs": "nodejs", "go": "go", "java": "java", "ruby": "ruby", "php": "php",
	"dotnet": "dotnet", "aspnetcore": "dotnet", "custom": "custom",
}

// The standard environment writes the version into the runtime's name.
var standardRuntime = regexp.MustCompile(`^(python|nodejs|go|java|ruby|php|dotnet)-?(\d[\w.]*)$`)

func (r *reader) runtime(n *node) {
	if !r.is(n, scalar) {
		return
	}
	name, ok := runtimes[n.text]
	if ok {
		r.v.Recipe.Runtime = name
		return
	}
	if m := standardRuntime.FindStringSubmatch(n.text); m != nil {
		hint := "write runtime: " + m[1]
		if n.text == "python27" {
			hint += ", and move the code to Python 3"
		} else {
			hint += ", and the version as runtime_config.runtime_version"
		}
		r.wrong(n, hint, "runtime %s is not of the flexible environment", quote(n.text))
		return
	}
	if n.text == "python-compat" {
		r.wrong(n, "use python", "runtime python-compat is no more")
		return
	}
	otherwise := "known are " + strings.Join(slices.Sorted(maps.Keys(runtimes)), ", ")
	r.wrong(n, spelling.DidYouMean(n.text, maps.Keys(runtimes), otherwise), "unknown runtime %s", quote(n.text))
}

func (r *reader) env(n *node) {
	if !r.is(n, scalar) {
		return
	}
	words := []string{"flex", "flexible", "2"}
	switch {
	case slices.Contains(words, n.text):
	case n.text == "standard" || n.text == "1":
		r.wrong(n, "write env: flex, if the app listens on $PORT by itself", "env: %s is App Engine's standard environment, which Holdfast does not run", n.text)
	default:
		r.wrong(n, spelling.DidYouMean(n.text, slices.Values(words), "write env: flex"), "unknown env %s", quote(n.text))
	}
}

// vm is the name that env had in the days of Managed VMs.
func (r *reader) vm(n *node) {
	r.boolean(func(b bool) {
		if !b {
			r.wrong(n, "write env: flex, if the app listens on $PORT by itself", "vm: false is App Engine's standard environment, which Holdfast does not run")
			return
		}
		r.warn(n.key, "vm: true is deprecated and read as env: flex, which is what to write instead")
	})(n)
}

func (r *reader) service(n *node) {
	if !r.is(n, scalar) {
		return
	}
	if err := checkLabel(n.text); err != "" {
		r.wrong(n, err, "%s: %s does not fit", n.name, quote(n.text))
		return
	}
	r.v.Service = n.text
}

// checkLabel says what a service or a version may be called.
func checkLabel(s string) string {
	switch {
	case !label.MatchString(s):
		return "it must be up to 63 of a-z, 0-9 and -, the first and the last no -"
	case strings.Contains(s, "-dot-"):
		return `"-dot-" separates the names in a host`
	}
	return ""
}

const maxHostBytes = 63 // of one DNS label (RFC 1035, 2.3.4)

// CheckKey says whether names are possible where they meet, in the host
// VERSION-dot-SERVICE-dot-PROJECT, which must fit one DNS label. The error
// matches app.ErrInvalid and is meant for people.
func CheckKey(k app.Key) error {
	for _, part := range []struct{ what, name string }{{"project", k.App}, {"service", k.Service}, {"version", k.Version}} {
		if why := checkLabel(part.name); why != "" {
			return fmt.Errorf("%s %s: %s: %w", part.what, quote(part.name), why, app.ErrInvalid)
		}
	}
	if k.Version == "default" || k.Version == "latest" || strings.HasPrefix(k.Version, "ah-") {
		return fmt.Errorf("version %q: App Engine keeps default, latest and ah-... for itself: %w", k.Version, app.ErrInvalid)
	}
	h := k.Version + "-dot-" + k.Service + "-dot-" + k.App
	if len(h) > maxHostBytes {
		return fmt.Errorf("the host %s is %d characters long, and may have %d: shorten the version, the service or the project: %w", h, len(h), maxHostBytes, app.ErrInvalid)
	}
	return nil
}

// continued are lines that the shell joins.
var continued = regexp.MustCompile(`\\\n`)

// entrypoint is a single shell command: it is run behind "exec", which would
// leave out a second line without a word.
func (r *reader) entrypoint(n *node) {
	if !r.is(n, scalar) {
		return
	}
	command := strings.TrimSpace(n.text)
	if strings.Contains(continued.ReplaceAllString(command, ""), "\n") {
		r.wrong(n, `write ">-" instead of "|" to join the lines, or put them into a script`, "entrypoint has several lines, and would run only the first")
		return
	}
	// App Engine adds "exec" by itself, and so takes one away.
	if rest, ok := strings.CutPrefix(command, "exec "); ok {
		command = strings.TrimSpace(rest)
	}
	r.v.Recipe.Entrypoint = command
}

// environment is env_variables. Values keep the spelling of the file: 1.10
// does not become 1.1, nor true True, as with App Engine's client; where the
// two differ a warning says so.
func (r *reader) environment(n *node) {
	r.v.Env = map[string]string{}
	for key, v := range r.entries(n) {
		switch what, hint := checkVariable(key, v.text); {
		case what != "" && hint == inFile: // it is the value's fault
			r.wrong(v, hint, "env_variables: %s", what)
		case what != "":
			r.fail(v.key, "env_variables: "+what, hint)
		default:
			r.v.Env[key] = v.text
			if v.plain && respelt(v.text) {
				r.differing = append(r.differing, key)
			}
		}
	}
	if len(r.differing) > 0 {
		r.warn(n.key, "App Engine would spell these otherwise (true as True, 1.10 as 1.1), Holdfast passes them as they are: put quotes around the values of "+strings.Join(r.differing, ", "))
	}
}

// inFile is the way out where a value is for no variable.
const inFile = "put it into a file"

// checkVariable says why an app cannot be given a variable, and what to do.
func checkVariable(name, value string) (what, hint string) {
	switch {
	case !identifier.MatchString(name):
		return quote(name) + " is no name", "a name has letters, digits and _, and does not begin with a digit"
	case strings.HasPrefix(name, "GAE"):
		return quote(name) + " is reserved", "names that begin with GAE are set by the platform; choose another"
	case len(name)+1+len(value) > maxVariableBytes:
		return fmt.Sprintf("%s is longer than a process can be given (%d bytes)", name, maxVariableBytes), inFile
	case strings.Contains(value, "\x00"):
		return name + " has a zero byte, which no variable can hold", inFile
	}
	return "", ""
}

// fraction is what YAML 1.1 takes for a number with a fraction.
var fraction = regexp.MustCompile(`^[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+][0-9]{1,3})?$`)

// respelt says whether App Engine's client, which makes a boolean or a number
// of a plain text and text of that again, would come out with another text.
func respelt(text string) bool {
	if yes[text] {
		return text != "True"
	}
	if no[text] {
		return text != "False"
	}
	if fraction.MatchString(text) {
		f, _ := parseFloat(text)
		back := strconv.FormatFloat(f, 'f', -1, 64)
		if !strings.Contains(back, ".") {
			back += ".0"
		}
		return back != text
	}
	if i, ok := parseInteger(text); ok {
		return strconv.FormatInt(i, 10) != text
	}
	return false
}

// skipFiles is one regular expression or a list of them.
func (r *reader) skipFiles(n *node) {
	patterns := []*node{n}
	switch n.kind {
	case list:
		patterns = n.items
	case scalar:
	default:
		if n.kind != null || r.is(n, scalar) {
			r.wrong(n, "", "skip_files must be a regular expression or a list of them, not %s", n.kind)
		}
		return
	}
	r.v.Recipe.SkipFiles = make([]string, 0, len(patterns)) // nil would mean the default
	total := 0
	for i, p := range patterns {
		if n.kind == list {
			p.name, p.key = fmt.Sprintf("skip_files[%d]", i), p.place
		}
		if !r.is(p, scalar) {
			continue
		}
		pattern := strings.TrimSpace(p.text)
		if total += len(pattern); len(pattern) > maxPatternBytes || total > maxPatternsBytes {
			r.wrong(p, "use .gcloudignore", "skip_files is too long (at most %d bytes each and %d in all)", maxPatternBytes, maxPatternsBytes)
			return
		}
		if _, err := regexp.Compile(pattern); err != nil {
			hint := ""
			if strings.Contains(pattern, "(?") || strings.Contains(pattern, `\`) {
				hint = "look-around, back-references and other parts of Python's expressions that Go's lack are not supported: use .gcloudignore"
			}
			r.wrong(p, hint, "%s: %s", p.name, strings.TrimPrefix(err.Error(), "error parsing regexp: "))
			continue
		}
		r.v.Recipe.SkipFiles = append(r.v.Recipe.SkipFiles, pattern)
	}
}

// finishGeneral judges runtime, env and runtime_config together.
func (r *reader) finishGeneral(root *node) {
	if r.seen["env"] == nil && r.seen["vm"] == nil {
		if r.seen["runtime"] == nil {
			r.fail(root.place, "neither runtime nor env is there", `add "runtime:" and "env: flex"`)
			return
		}
		r.warn(root.place, "env is missing and read as env: flex, the only environment here; App Engine would take standard")
	}
	if s, m := r.seen["service"], r.seen["module"]; m != nil {
		if s != nil {
			r.fail(m.key, "module is the old name of service, and both are there", "remove this line")
		} else {
			r.warn(m.key, "module is deprecated and read as service, which is what to write instead")
		}
	}
	recipe := &r.v.Recipe
	if r.seen["runtime"] == nil {
		recipe.Runtime = "custom" // as App Engine's client does for flex
	}
	if !r.good("runtime", "runtime_config") {
		return
	}
	config := recipe.RuntimeConfig
	for _, key := range slices.Sorted(maps.Keys(config)) {
		for _, known := range knownConfig {
			if d := spelling.Distance(key, known, 2); d > 0 && d <= 2 {
				r.warn(r.where("runtime_config").key, fmt.Sprintf("runtime_config has %s, which no runtime knows: did you mean %s?", quote(key), known))
			}
		}
	}
	switch recipe.Runtime {
	case "python":
		r.pythonVersion(config)
	case "php":
		if config["document_root"] == "" {
			r.fail(r.where("runtime_config", "runtime").key, "runtime php needs runtime_config.document_root", `the directory with index.php, such as "public", or "."`)
		}
	}
}

// knownConfig are the settings that a slip would hit hardest.
var knownConfig = []string{"operating_system", "runtime_version", "document_root"}

var dotted = regexp.MustCompile(`^3\.\d{1,2}(\.\d{1,2})?$`)

// pythonVersion reads the python_version of runtimes before 2023, which App
// Engine's own sample still has: 2, 3, or an exact one.
func (r *reader) pythonVersion(config map[string]string) {
	old, ok := config["python_version"]
	if !ok {
		return
	}
	n := r.seen["runtime_config"]
	switch {
	case old == "3" || config["runtime_version"] != "":
		r.warn(n.key, "runtime_config.python_version is deprecated; write operating_system and runtime_version instead")
	case dotted.MatchString(old):
		config["runtime_version"] = old
		r.warn(n.key, "runtime_config.python_version is deprecated and read as runtime_version, which is what to write instead")
	default:
		r.fail(n.key, "runtime_config.python_version: "+quote(old)+" is not supported", "use Python 3, with operating_system and runtime_version")
	}
}

// Runtimes are the runtimes of the flexible environment, sorted.
func Runtimes() []string {
	return slices.Compact(slices.Sorted(maps.Values(runtimes)))
}

// Runtime is a runtime by its one name; "" if there is none of that name.
func Runtime(name string) string { return runtimes[name] }
