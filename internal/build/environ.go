package build

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// environ is an environment, by name.
type environ map[string]string

// defaultPath is used where the machine's environment has no PATH, as under some
// service managers.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Of the machine's environment, tools see what tells them who and where they
// are, how to reach the network, and their own settings. The rest may hold
// secrets of whoever started us and is none of an app's business.
var (
	passedNames = []string{
		"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TMPDIR", "TZ",
		"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
		"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS",
		"JAVA_HOME", "MAVEN_OPTS", "NVM_DIR", "PYENV_ROOT", "CC", "CXX",
	}
	passedPrefixes = []string{
		"LC_", "XDG_", "PIP_", "npm_config_", "NPM_CONFIG_", "YARN_", "COREPACK_", "PNPM_", "BUNDLE_", "GEM_", "COMPOSER_", "DOTNET_", "NUGET_",
	}
	passedGo = []string{
		"GOPATH", "GOCACHE", "GOMODCACHE", "GOPROXY", "GOPRIVATE", "GONOPROXY", "GONOSUMDB", "GOSUMDB", "GOINSECURE",
		"GOTOOLCHAIN", "GOROOT", "GOAUTH", "GOVCS", "GOENV", "GOTMPDIR", "GOFLAGS", "GOEXPERIMENT", "CGO_ENABLED",
	}

	// decisiveNames are those of them that change what is built.
	decisiveNames = []string{"GOFLAGS", "GOEXPERIMENT", "CGO_ENABLED", "CC", "CXX"}
)

// machine is the part of the machine's environment that tools see.
func (b *Builder) machine() environ {
	list := b.Environ
	if list == nil {
		list = os.Environ()
	}
	e := environ{}
	for _, kv := range list {
		k, v, ok := strings.Cut(kv, "=")
		if ok && (slices.Contains(passedNames, k) || slices.Contains(passedGo, k) ||
			slices.ContainsFunc(passedPrefixes, func(p string) bool { return strings.HasPrefix(k, p) })) {
			e[k] = v
		}
	}
	if e["PATH"] == "" {
		e["PATH"] = defaultPath
	}
	if e["HOME"] == "" {
		// Tools keep their caches there; some refuse to work without one.
		e["HOME"] = filepath.Join(b.Dir, "home")
	}
	if e["LANG"] == "" {
		e["LANG"] = "C.UTF-8"
	}
	return e
}

// environ is the environment of the build's commands: the machine's, then ours,
// which keeps them from asking questions, then build_env_variables. path goes
// before PATH.
func (j *job) environ(path []string, more environ) environ {
	e := maps.Clone(j.machine)
	e["CI"] = "1"
	e["DEBIAN_FRONTEND"] = "noninteractive"
	e["GIT_TERMINAL_PROMPT"] = "0"
	e["NO_COLOR"] = "1"
	e["TERM"] = "dumb"
	maps.Copy(e, more)
	maps.Copy(e, j.recipe.Env)
	e["PATH"] = joinPath(path, e["PATH"])
	return e
}

func (e environ) get(name string) string { return e[name] }

// decisive is what of the environment changes what is built.
func (e environ) decisive() environ {
	d := environ{}
	for _, k := range decisiveNames {
		if v, ok := e[k]; ok {
			d[k] = v
		}
	}
	return d
}

func (e environ) list() []string {
	var l []string
	for _, k := range slices.Sorted(maps.Keys(e)) {
		l = append(l, k+"="+e[k])
	}
	return l
}

// find looks a command up in PATH. A name with a slash is taken as it is.
// Relative elements of PATH are passed over: the directory would be the app's.
func (e environ) find(name string) (string, bool) {
	if strings.Contains(name, "/") {
		return name, isExecutable(name)
	}
	for _, dir := range filepath.SplitList(e["PATH"]) {
		if filepath.IsAbs(dir) {
			if path := filepath.Join(dir, name); isExecutable(path) {
				return path, true
			}
		}
	}
	return "", false
}

func isExecutable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// joinPath puts directories before a PATH, each once.
func joinPath(first []string, path string) string {
	var all []string
	for _, dir := range append(slices.Clone(first), filepath.SplitList(path)...) {
		if dir != "" && !slices.Contains(all, dir) {
			all = append(all, dir)
		}
	}
	return strings.Join(all, string(filepath.ListSeparator))
}
