package build

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// systemPython is the interpreter that distributions install their packages for.
// The one that PATH finds first may be a version manager's, which sees none.
const systemPython = "/usr/bin/python3"

const pythonInstall = "apt install python3 python3-venv"

var pythonName = regexp.MustCompile(`^python3(\.\d+)?$`)

func choosePython(ctx context.Context, j *job) ([]tool, error) {
	if c, err := j.declared(); err != nil {
		return nil, err
	} else if c == "" && j.firstOf("main.py", "app.py") == "" {
		return nil, refuse(Prepare, "add a line such as \"entrypoint: gunicorn -b :$PORT MODULE:APP\" to app.yaml",
			"there is no entrypoint, no Procfile and no main.py")
	}
	c, err := j.versioned("Python", pythonInstall, "python_version")
	if err != nil {
		return nil, err
	}
	e := j.environ(nil, nil)
	var paths []string
	if j.set(systemPackagesVar) {
		paths = []string{systemPython}
	} else {
		if path, ok := e.find("python3"); ok {
			paths = append(paths, path) // the one a person would get, before all others
		}
		if c.matches != nil {
			paths = append(paths, j.pythons(e)...)
		}
	}
	var have []tool
	for _, path := range paths {
		// A version manager's shim becomes the interpreter that it stands for.
		said, err := j.ask(ctx, e, path, "-I", "-c", `import sys; print(sys.executable); print("%d.%d.%d" % sys.version_info[:3])`)
		exe, version, ok := strings.Cut(said, "\n")
		if err != nil || !ok {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			continue
		}
		t := tool{"Python", exe, version}
		if !slices.Contains(have, t) {
			have = append(have, t)
		}
	}
	t, err := j.take(c, have)
	return []tool{t}, err
}

// pythons lists interpreters where machines keep them: in PATH, in the system's
// directories and in those of version managers.
func (j *job) pythons(e environ) []string {
	dirs := append(filepath.SplitList(e["PATH"]), "/usr/bin", "/usr/local/bin", "/opt/homebrew/bin")
	home := e["HOME"]
	for _, pattern := range []string{
		filepath.Join(cmp.Or(e["PYENV_ROOT"], filepath.Join(home, ".pyenv")), "versions/3*/bin"),
		filepath.Join(home, ".asdf/installs/python/3*/bin"),
		filepath.Join(home, ".local/share/mise/installs/python/3*/bin"),
		filepath.Join(home, ".local/share/uv/python/cpython-3*/bin"),
	} {
		found, _ := filepath.Glob(pattern)
		slices.Reverse(found)
		dirs = append(dirs, found...)
	}
	var paths, real []string
	for _, dir := range dirs {
		if !filepath.IsAbs(dir) || filepath.Base(dir) == "shims" {
			continue // pyenv's shims for versions that are not active only complain
		}
		list, _ := filepath.Glob(filepath.Join(dir, "python3*"))
		for _, path := range list {
			to, err := filepath.EvalSymlinks(path)
			if pythonName.MatchString(filepath.Base(path)) && err == nil && isExecutable(path) && !slices.Contains(real, to) {
				paths, real = append(paths, path), append(real, to)
			}
		}
	}
	return paths
}

// scriptsProgram makes the commands of the system's packages (gunicorn, flask)
// commands of the virtual environment. The system's own scripts would run the
// system's interpreter, which does not see what was installed beside it.
const scriptsProgram = `
import importlib.metadata as m, os, sys
try:
    points = m.entry_points(group="console_scripts")
except TypeError:
    points = m.entry_points().get("console_scripts", ())
bin = os.path.dirname(sys.executable)
for p in points:
    module, _, attr = p.value.partition(":")
    attr = attr.split("[")[0].strip()
    path = os.path.join(bin, p.name)
    if not attr or "/" in p.name or p.name.startswith("pip") or os.path.lexists(path):
        continue
    with open(path, "w") as f:
        f.write("#!%s\nimport sys\nfrom %s import %s\nsys.exit(%s())\n" % (sys.executable, module.strip(), attr.split(".")[0], attr))
    os.chmod(path, 0o755)
`

func buildPython(ctx context.Context, j *job) (made, error) {
	python := j.tools[0]
	system := j.set(systemPackagesVar)
	install := j.has("requirements.txt") && !j.skipInstall()
	venv := j.at.path("env")
	bin := filepath.Join(venv, "bin")

	argv := []string{python.Path, "-m", "venv"}
	if system {
		argv = append(argv, "--system-site-packages")
	}
	if !install {
		argv = append(argv, "--without-pip") // which takes longer than all the rest
	}
	err := j.run(ctx, command{phase: Install, argv: append(argv, "../env"), env: j.environ(nil, nil)})
	if err != nil {
		var e *Error
		if errors.As(err, &e) && strings.Contains(strings.Join(e.Tail, "\n"), "ensurepip") {
			e.Next = pythonInstall
		}
		return made{}, err
	}

	env := j.environ([]string{bin}, environ{"VIRTUAL_ENV": venv, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_PROGRESS_BAR": "off"})
	if install {
		err := j.run(ctx, command{phase: Install, env: env,
			argv: []string{"python", "-m", "pip", "install", "--no-input", "-r", "requirements.txt"},
			next: "correct requirements.txt, or, on a machine without a package index, set " + skipInstallVar + ": \"1\" under build_env_variables"})
		if err != nil {
			return made{}, err
		}
	} else if j.has("pyproject.toml") || j.has("Pipfile") {
		j.note("only requirements.txt is installed from; pyproject.toml and Pipfile are not read")
	}
	if system {
		if _, err := j.ask(ctx, env, filepath.Join(bin, "python"), "-c", scriptsProgram); err != nil {
			j.note("the commands of the system's packages are used as they are: %v", err)
		}
	}

	m := made{Path: []string{bin}, Env: map[string]string{"VIRTUAL_ENV": venv, "PYTHONUNBUFFERED": "1"}}
	if m.Command, err = j.declared(); err != nil || m.Command != "" {
		return m, err
	}
	module := strings.TrimSuffix(j.firstOf("main.py", "app.py"), ".py")
	if _, err := os.Stat(filepath.Join(bin, "gunicorn")); err != nil {
		if _, ok := env.find("gunicorn"); !ok || !system {
			return made{}, refuse(Prepare, "add gunicorn to requirements.txt, or an entrypoint to app.yaml",
				"without an entrypoint the app is started with gunicorn, which is not installed")
		}
	}
	m.Command = fmt.Sprintf("gunicorn -b :$PORT %s:app", module)
	return m, nil
}
