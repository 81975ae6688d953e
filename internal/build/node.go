package build

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
)

const (
	nodeInstall     = "apt install nodejs npm, or install it with a version manager such as nvm"
	packageBytesMax = 4 << 20
	rangeMax        = 256 // bytes of engines.node

	// runScriptsVar is the buildpacks' name of the scripts to run; empty means none.
	runScriptsVar = "GOOGLE_NODE_RUN_SCRIPTS"
)

// manifest is what of package.json concerns us.
type manifest struct {
	scripts map[string]string
	node    string // engines.node
	manager string // packageManager, as in pnpm@9.1.0
	needs   bool   // something is to be installed, or may be
}

// parsePackage reads package.json. Parts that are not of the form that npm asks
// for count as absent: npm itself will complain where it minds.
func parsePackage(text string) (manifest, error) {
	var top map[string]json.RawMessage
	if err := json.Unmarshal([]byte(strings.TrimPrefix(text, "\uFEFF")), &top); err != nil {
		return manifest{}, fmt.Errorf("package.json: %w", err)
	}
	table := func(name string) map[string]string {
		var raw map[string]any
		if json.Unmarshal(top[name], &raw) != nil {
			return nil
		}
		t := map[string]string{}
		for k, v := range raw {
			if s, ok := v.(string); ok {
				t[k] = s
			}
		}
		return t
	}
	m := manifest{scripts: table("scripts"), node: strings.TrimSpace(table("engines")["node"])}
	_ = json.Unmarshal(top["packageManager"], &m.manager)
	for _, name := range []string{"dependencies", "devDependencies", "optionalDependencies", "peerDependencies"} {
		m.needs = m.needs || len(table(name)) > 0
	}
	m.needs = m.needs || top["workspaces"] != nil
	for _, name := range []string{"preinstall", "install", "postinstall", "prepare"} {
		m.needs = m.needs || m.scripts[name] != ""
	}
	return m, nil
}

// manifest reads the app's package.json. Without one, ok is false.
func (j *job) manifest() (m manifest, ok bool, err error) {
	text, err := j.read("package.json", packageBytesMax)
	if errors.Is(err, fs.ErrNotExist) {
		return manifest{}, false, nil
	}
	if err == nil {
		m, err = parsePackage(text)
	}
	if err != nil {
		return manifest{}, false, refuse(Prepare, "correct package.json", "%w", err)
	}
	return m, true, nil
}

// buildScripts are the package scripts that a build runs, as App Engine chooses
// them: those that a variable names, else gcp-build, else build.
func (m manifest) buildScripts(env map[string]string) []string {
	if list, ok := env[runScriptsVar]; ok {
		return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
	}
	if s, ok := m.scripts["gcp-build"]; ok {
		if strings.TrimSpace(s) == "" {
			return nil
		}
		return []string{"gcp-build"}
	}
	if m.scripts["build"] != "" {
		return []string{"build"}
	}
	return nil
}

func chooseNode(ctx context.Context, j *job) ([]tool, error) {
	m, ok, err := j.manifest()
	if err != nil {
		return nil, err
	}
	if c, err := j.declared(); err != nil {
		return nil, err
	} else if c == "" && m.scripts["start"] == "" && !j.has("server.js") {
		return nil, refuse(Prepare, "add a \"start\" script to package.json, or an entrypoint to app.yaml",
			"there is no entrypoint, no Procfile, no start script and no server.js")
	}
	c, err := j.versioned("Node.js", nodeInstall)
	if err != nil {
		return nil, err
	}
	if c.matches == nil && ok && m.node != "" {
		if c.matches, err = nodeRange(m.node); err != nil {
			return nil, refuse(Prepare, "correct engines in package.json", "engines.node %q: %w", m.node, err)
		}
		c.wanted, c.where = m.node, "engines.node"
	}
	have := j.one(ctx, "Node.js", "node", "--version")
	if c.matches != nil && !slices.ContainsFunc(have, func(t tool) bool { return c.matches(parseFound(t.Version)) }) {
		have = j.nodes(ctx, have)
	}
	t, err := j.take(c, have)
	if err != nil {
		return nil, err
	}
	tools := []tool{t}
	if ok && !j.set(skipInstallVar) {
		e := j.environ([]string{filepath.Dir(t.Path)}, nil)
		name, why := j.packager(m)
		path, found := e.find(name)
		if !found && (m.needs || len(m.buildScripts(j.recipe.Env)) > 0 || m.scripts["start"] != "") {
			next := "npm install --global " + name
			if name == "npm" {
				next = "apt install npm"
			}
			return nil, refuse(Prepare, next, "%s needs %s, which is not in PATH", why, name)
		}
		tools = append(tools, tool{Name: name, Path: path})
	}
	return tools, nil
}

// nodeRange reads a range of versions as package.json writes them.
func nodeRange(s string) (func(numbers) bool, error) {
	if len(s) > rangeMax {
		return nil, fmt.Errorf("longer than %d bytes", rangeMax)
	}
	switch s {
	case "latest", "current", "node", "lts/*":
		return nil, nil
	}
	c, err := semver.NewConstraint(s)
	if err != nil {
		return nil, err
	}
	return func(n numbers) bool {
		for len(n) < 3 {
			n = append(slices.Clone(n), 0)
		}
		return c.Check(semver.New(uint64(n[0]), uint64(n[1]), uint64(n[2]), "", ""))
	}, nil
}

// nodes adds to have what version managers have installed, the newest first.
func (j *job) nodes(ctx context.Context, have []tool) []tool {
	e := j.environ(nil, nil)
	home := e["HOME"]
	for _, pattern := range []string{
		filepath.Join(cmp.Or(e["NVM_DIR"], filepath.Join(home, ".nvm")), "versions/node/v*/bin/node"),
		filepath.Join(home, ".local/share/fnm/node-versions/v*/installation/bin/node"),
		filepath.Join(home, ".asdf/installs/nodejs/*/bin/node"),
		filepath.Join(home, ".local/share/mise/installs/node/*/bin/node"),
		"/usr/local/n/versions/node/*/bin/node",
		"/usr/local/bin/node",
		"/usr/bin/node",
	} {
		found, _ := filepath.Glob(pattern)
		for _, path := range found {
			if slices.ContainsFunc(have, func(t tool) bool { return t.Path == path }) {
				continue
			}
			if said, err := j.ask(ctx, e, path, "--version"); err == nil {
				have = append(have, tool{"Node.js", path, versionForm.FindString(said)})
			}
		}
	}
	slices.SortStableFunc(have, func(x, y tool) int { return slices.Compare(parseFound(y.Version), parseFound(x.Version)) })
	return have
}

// packager names the package manager that the app's lock file asks for, and what
// asks for it.
func (j *job) packager(m manifest) (name, why string) {
	switch {
	case j.firstOf("package-lock.json", "npm-shrinkwrap.json") != "":
		return "npm", j.firstOf("package-lock.json", "npm-shrinkwrap.json")
	case j.has("yarn.lock"):
		return "yarn", "yarn.lock"
	case j.has("pnpm-lock.yaml"):
		return "pnpm", "pnpm-lock.yaml"
	}
	if name, _, _ := strings.Cut(m.manager, "@"); name == "yarn" || name == "pnpm" {
		return name, "packageManager in package.json"
	}
	return "npm", "package.json"
}

func buildNode(ctx context.Context, j *job) (made, error) {
	node := j.tools[0]
	m, ok, err := j.manifest()
	if err != nil {
		return made{}, err
	}
	bin := append(j.before(node, "node"), filepath.Join(j.at.app, "node_modules", ".bin"))
	name, _ := j.packager(m)
	if ok && !j.skipInstall() {
		if err := j.installNode(ctx, m, name, bin); err != nil {
			return made{}, err
		}
	}
	out := made{Path: bin, Env: map[string]string{"NODE_ENV": "production"}}
	if out.Command, err = j.declared(); err != nil || out.Command != "" {
		return out, err
	}
	out.Command = "node server.js"
	if m.scripts["start"] != "" {
		out.Command = name + " start"
	}
	return out, nil
}

// installNode installs what package.json asks for and runs the build scripts.
// What only they need is installed before and taken away after.
func (j *job) installNode(ctx context.Context, m manifest, name string, bin []string) error {
	scripts := m.buildScripts(j.recipe.Env)
	quiet := environ{
		"npm_config_audit": "false", "npm_config_fund": "false", "npm_config_progress": "false",
		"npm_config_update_notifier": "false", "npm_config_yes": "true",
		"COREPACK_ENABLE_DOWNLOAD_PROMPT": "0", "YARN_ENABLE_TELEMETRY": "0", "NODE_ENV": "production",
	}
	if len(scripts) > 0 {
		quiet["NODE_ENV"] = "development"
	}
	env := j.environ(bin, quiet)
	next := "correct package.json and its lock file, or, on a machine without a registry, set " + skipInstallVar + ": \"1\" under build_env_variables"
	if m.needs {
		if err := os.RemoveAll(filepath.Join(j.at.app, "node_modules")); err != nil { // another machine's
			return fmt.Errorf("remove node_modules: %w", err)
		}
		argv := j.installCommand(name, len(scripts) > 0)
		if err := j.run(ctx, command{phase: Install, argv: argv, env: env, next: next}); err != nil {
			return err
		}
	}
	env["NODE_ENV"] = cmp.Or(j.recipe.Env["NODE_ENV"], "production")
	for _, s := range scripts {
		if err := j.run(ctx, command{phase: Compile, argv: []string{name, "run", s}, env: env, next: "correct the script " + s + " of package.json"}); err != nil {
			return err
		}
	}
	if len(scripts) > 0 && m.needs {
		var argv []string
		switch name {
		case "npm":
			argv = []string{"npm", "prune", "--omit=dev"}
		case "pnpm":
			argv = []string{"pnpm", "prune", "--prod"}
		default:
			return nil // yarn keeps what is left over, which is harmless
		}
		return j.run(ctx, command{phase: Install, argv: argv, env: env, next: next})
	}
	return nil
}

// installCommand is how a package manager installs what is locked, with what
// only development needs (all) or without.
func (j *job) installCommand(name string, all bool) []string {
	var argv []string
	switch name {
	case "yarn":
		argv = []string{"yarn", "install", "--frozen-lockfile", "--non-interactive"}
		if j.has(".yarnrc.yml") { // version 2 and later
			return []string{"yarn", "install", "--immutable"}
		}
		if !all {
			argv = append(argv, "--production")
		}
	case "pnpm":
		argv = []string{"pnpm", "install", "--frozen-lockfile"}
		if !all {
			argv = append(argv, "--prod")
		}
	default:
		argv = []string{"npm", "install"}
		if j.firstOf("package-lock.json", "npm-shrinkwrap.json") != "" {
			argv = []string{"npm", "ci"}
		}
		if !all {
			argv = append(argv, "--omit=dev")
		}
	}
	return argv
}
