package build

import (
	"strings"
	"testing"

	"holdfast/internal/app"
)

// fake is a toolchain that says plausible things and installs nothing. The
// commands write files where a test looks at what they did.
var fake = map[string]string{
	"python3": `case "$*" in
		*sys.executable*) echo "$0"; echo 3.12.1;;
		*venv*) for d; do :; done; /bin/mkdir -p "$d/bin"; printf '#!/bin/sh\n[ "$2" != pip ] || : >"$VIRTUAL_ENV/bin/gunicorn"\n' >"$d/bin/python"; /bin/chmod 755 "$d/bin/python";;
		esac`,
	"node":     "echo v20.11.0",
	"npm":      "echo npm $*",
	"yarn":     "echo yarn $*",
	"pnpm":     "echo pnpm $*",
	"go":       `case "$1" in env) echo go1.26.1;; list) echo main;; build) echo go $*; esac`,
	"php":      "echo 8.2.7",
	"composer": "echo composer $*",
	"ruby":     "echo 3.2.2",
	"bundle":   "echo bundle $*",
	"java":     "echo openjdk 17.0.9 2023-10-17",
	"mvn":      "echo mvn $*; /bin/mkdir target; /bin/cp lib.jar target/app.jar",
	"dotnet":   `case "$1" in --version) echo 8.0.100;; *) echo dotnet "$1"; /bin/mkdir "$5"; : >"$5/Shop.runtimeconfig.json";; esac`,
}

func TestStartCommand(t *testing.T) {
	jar := jarOf(t, "Manifest-Version: 1.0\r\nMain-Class: x.Main\r\n")
	library := jarOf(t, "Manifest-Version: 1.0\r\n")
	type files = map[string]string
	for _, c := range []struct {
		name    string
		runtime string
		files   files
		config  files
		entry   string
		env     files
		want    string // the command; BUILD stands for the build's directory
		ran     string // what the tools did, in order, as a part of the output
	}{
		{name: "the entrypoint wins", runtime: "nodejs", entry: "node a.js", files: files{"Procfile": "web: node b.js", "server.js": ""}, want: "node a.js"},
		{name: "then the Procfile", runtime: "nodejs", files: files{"Procfile": "# x\nworker: w\nweb: node b.js --port $PORT\n", "server.js": ""}, want: "node b.js --port $PORT"},
		{name: "then npm start", runtime: "nodejs", files: files{"package.json": `{"scripts":{"start":"x"}}`, "server.js": ""}, want: "npm start"},
		{name: "then server.js", runtime: "nodejs", files: files{"server.js": ""}, want: "node server.js"},
		{name: "npm ci with a lock file", runtime: "nodejs", files: files{"package.json": `{"dependencies":{"x":"1"}}`, "package-lock.json": "{}", "server.js": ""}, want: "node server.js", ran: "npm ci --omit=dev"},
		{name: "npm install without", runtime: "nodejs", files: files{"package.json": `{"dependencies":{"x":"1"}}`, "server.js": ""}, want: "node server.js", ran: "npm install --omit=dev"},
		{name: "gcp-build sees development's", runtime: "nodejs", files: files{"package.json": `{"devDependencies":{"x":"1"},"scripts":{"start":"x","gcp-build":"y","build":"z"}}`}, want: "npm start", ran: "npm install\n$ npm run gcp-build\nnpm run gcp-build\n$ npm prune --omit=dev\n"},
		{name: "an empty gcp-build runs nothing", runtime: "nodejs", files: files{"package.json": `{"scripts":{"start":"x","gcp-build":"","build":"z"}}`}, want: "npm start"},
		{name: "the build script", runtime: "nodejs", files: files{"package.json": `{"scripts":{"start":"x","build":"z"}}`}, want: "npm start", ran: "$ npm run build\n"},
		{name: "chosen build scripts", runtime: "nodejs", env: files{runScriptsVar: "lint,pack"}, files: files{"package.json": `{"scripts":{"start":"x","build":"z"}}`}, want: "npm start", ran: "$ npm run lint\nnpm run lint\n$ npm run pack\n"},
		{name: "yarn", runtime: "nodejs", files: files{"package.json": `{"dependencies":{"x":"1"},"scripts":{"start":"x"}}`, "yarn.lock": ""}, want: "yarn start", ran: "yarn install --frozen-lockfile --non-interactive --production"},
		{name: "pnpm", runtime: "nodejs", files: files{"package.json": `{"dependencies":{"x":"1"},"scripts":{"start":"x"}}`, "pnpm-lock.yaml": ""}, want: "pnpm start", ran: "pnpm install --frozen-lockfile --prod"},
		{name: "node without installing", runtime: "nodejs", env: files{skipInstallVar: "1"}, files: files{"package.json": `{"dependencies":{"x":"1"},"scripts":{"start":"x"}}`}, want: "npm start", ran: skipInstallVar},
		{name: "python with main.py", runtime: "python", files: files{"main.py": "", "app.py": "", "requirements.txt": "gunicorn"}, want: "gunicorn -b :$PORT main:app", ran: "pip install --no-input -r requirements.txt"},
		{name: "python with app.py", runtime: "python", files: files{"app.py": "", "requirements.txt": "gunicorn"}, want: "gunicorn -b :$PORT app:app"},
		{name: "go", runtime: "go", files: files{"go.mod": "module x"}, want: "BUILD/bin/main", ran: "go build -trimpath -buildvcs=false -o"},
		{name: "go's flags do not matter to the command", runtime: "go", entry: "main --verbose", files: files{"go.mod": "module x"}, want: "main --verbose"},
		{name: "php", runtime: "php", config: files{"document_root": "."}, want: "php -S 0.0.0.0:$PORT -t ."},
		{name: "php with a front controller", runtime: "php", files: files{"composer.json": "{}"}, config: files{"document_root": "web dir/", "front_controller_file": "app.php"}, want: "php -S 0.0.0.0:$PORT -t 'web dir' BUILD/router.php", ran: "composer install --no-dev"},
		{name: "rackup", runtime: "ruby", files: files{"config.ru": ""}, want: "rackup -o 0.0.0.0 -p $PORT config.ru"},
		{name: "rails", runtime: "ruby", files: files{"config.ru": "", "bin/rails": "", "Gemfile": ""}, want: "bundle exec ruby bin/rails server -b 0.0.0.0 -p $PORT", ran: "bundle install"},
		{name: "a jar", runtime: "java", files: files{"my app.jar": jar, "lib.jar": library}, want: "env SERVER_PORT=$PORT java -jar 'my app.jar'"},
		{name: "maven", runtime: "java", files: files{"pom.xml": "", "lib.jar": jar}, want: "env SERVER_PORT=$PORT java -jar target/app.jar", ran: "mvn --batch-mode -DskipTests package"},
		{name: "dotnet", runtime: "dotnet", want: "env ASPNETCORE_URLS=http://0.0.0.0:$PORT dotnet BUILD/publish/Shop.dll", ran: "dotnet publish"},
		{name: "dotnet's old name, with an entrypoint", runtime: "aspnetcore", entry: "Shop --x", want: "env ASPNETCORE_URLS=http://0.0.0.0:$PORT Shop --x"},
		{name: "custom", runtime: "custom", files: files{"Procfile": "web: ./server"}, want: "./server"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := only(t, fake)
			var out strings.Builder
			r := app.Recipe{Runtime: c.runtime, Entrypoint: c.entry, RuntimeConfig: c.config, Env: c.env}
			a, err := b.Build(t.Context(), tree(t, c.files), r, Options{}, &out)
			if err != nil {
				t.Fatalf("%v; output %s", err, &out)
			}
			at, _ := b.place(a.ID)
			if got := strings.ReplaceAll(a.Command, at.dir, "BUILD"); got != c.want {
				t.Errorf("command %q, want %q", got, c.want)
			}
			if !strings.Contains(out.String(), c.ran) {
				t.Errorf("output:\n%swant in it:\n%s", &out, c.ran)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	type files = map[string]string
	for _, c := range []struct {
		name    string
		runtime string
		files   files
		config  files
		entry   string
		env     files
		without string // a command that the machine lacks
		say     []string
	}{
		{name: "no such runtime", runtime: "perl", say: []string{`"perl"`, "python, nodejs"}},
		{name: "custom without anything", runtime: "custom", say: []string{"needs an entrypoint", "app.yaml"}},
		{name: "custom with a Dockerfile", runtime: "custom", entry: "x", files: files{"Dockerfile": ""}, say: []string{"container driver", "leave Dockerfile out"}},
		{name: "custom with a cloudbuild.yaml", runtime: "custom", entry: "x", files: files{"cloudbuild.yaml": ""}, say: []string{"container driver"}},
		{name: "custom with both", runtime: "custom", entry: "x", files: files{"Dockerfile": "", "cloudbuild.yaml": ""}, say: []string{"both are there", "keep one"}},
		{name: "a Dockerfile elsewhere", runtime: "python", entry: "x", files: files{"Dockerfile": ""}, say: []string{"runtime: python", "runtime: custom"}},
		{name: "a Procfile without web", runtime: "custom", files: files{"Procfile": "worker: x"}, say: []string{"no web process"}},
		{name: "a broken Procfile", runtime: "custom", files: files{"Procfile": "\nweb"}, say: []string{"line 2"}},
		{name: "no python", runtime: "python", entry: "x", without: "python3", say: []string{"needs Python", "apt install python3"}},
		{name: "no main.py", runtime: "python", say: []string{"main.py", "entrypoint: gunicorn"}},
		{name: "no gunicorn", runtime: "python", files: files{"main.py": ""}, say: []string{"gunicorn", "requirements.txt"}},
		{name: "a version that is none", runtime: "python", entry: "x", config: files{"runtime_version": "new"}, say: []string{`runtime_version "new"`}},
		{name: "no node", runtime: "nodejs", files: files{"server.js": ""}, without: "node", say: []string{"needs Node.js", "apt install nodejs"}},
		{name: "no npm", runtime: "nodejs", files: files{"package.json": `{"dependencies":{"x":"1"}}`, "server.js": ""}, without: "npm", say: []string{"needs npm", "apt install npm"}},
		{name: "no yarn", runtime: "nodejs", files: files{"package.json": `{"dependencies":{"x":"1"}}`, "server.js": "", "yarn.lock": ""}, without: "yarn", say: []string{"yarn.lock needs yarn"}},
		{name: "nothing to start", runtime: "nodejs", files: files{"package.json": "{}"}, say: []string{"no start script"}},
		{name: "another node", runtime: "nodejs", files: files{"server.js": "", "package.json": `{"engines":{"node":"^1.2 || 3.x"}}`}, say: []string{"^1.2 || 3.x", "engines.node", "20.11.0", nearestFlag}},
		{name: "engines that say nothing", runtime: "nodejs", files: files{"server.js": "", "package.json": `{"engines":{"node":"new!"}}`}, say: []string{"engines.node"}},
		{name: "a broken package.json", runtime: "nodejs", files: files{"server.js": "", "package.json": `{`}, say: []string{"package.json"}},
		{name: "no go.mod", runtime: "go", say: []string{"go.mod", "go mod init"}},
		{name: "an older go", runtime: "go", files: files{"go.mod": ""}, config: files{"runtime_version": "1.99"}, say: []string{"1.99 or newer", "1.26.1", nearestFlag}},
		{name: "no php", runtime: "php", config: files{"document_root": "."}, without: "php", say: []string{"apt install php-cli"}},
		{name: "php without a root", runtime: "php", say: []string{"document_root"}},
		{name: "php outside", runtime: "php", config: files{"document_root": "../x"}, say: []string{"out of the app"}},
		{name: "no composer", runtime: "php", config: files{"document_root": "."}, files: files{"composer.json": "{}"}, without: "composer", say: []string{"apt install composer"}},
		{name: "no ruby", runtime: "ruby", entry: "x", without: "ruby", say: []string{"apt install ruby"}},
		{name: "no java", runtime: "java", entry: "x", without: "java", say: []string{"apt install default-jdk-headless"}},
		{name: "no jar", runtime: "java", say: []string{"0 jars", "entrypoint"}},
		{name: "no maven", runtime: "java", files: files{"pom.xml": ""}, without: "mvn", say: []string{"apt install maven"}},
		{name: "no dotnet", runtime: "dotnet", without: "dotnet", say: []string{".NET SDK"}},
		{name: "skip_files and .gcloudignore", runtime: "custom", entry: "x", files: files{".gcloudignore": ""}, env: files{"skip": "y"}, say: []string{"only one of them"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			have := map[string]string{}
			for name, script := range fake {
				if name != c.without {
					have[name] = script
				}
			}
			r := app.Recipe{Runtime: c.runtime, Entrypoint: c.entry, RuntimeConfig: c.config, Env: c.env}
			if c.env["skip"] != "" {
				r.SkipFiles = []string{"x"}
			}
			b := only(t, have)
			wantError(t, b, tree(t, c.files), r, c.say...)
			if n := left(t, b); len(n) != 0 {
				t.Errorf("left behind: %v", n)
			}
		})
	}
}

func TestNearestVersion(t *testing.T) {
	b := only(t, fake)
	r := app.Recipe{Runtime: "nodejs", RuntimeConfig: map[string]string{"runtime_version": "1"}}
	src := tree(t, map[string]string{"server.js": ""})
	wantError(t, b, src, r, "runtime_version", nearestFlag)
	var out strings.Builder
	if _, err := b.Build(t.Context(), src, r, Options{Nearest: true}, &out); err != nil || !strings.Contains(out.String(), "taking the nearest") {
		t.Errorf("with Nearest: %v, output %q", err, &out)
	}

	j := &job{opt: Options{Nearest: true}, out: &output{to: &out}, b: b}
	for _, c := range []struct{ wanted, want string }{
		{"3.11", "3.11.7"}, {"3.13", "3.12.1"}, {"3.1", "3.6.15"}, {"3", "3.11.7"}, {"2", "2.7.18"}, {"4", "3.12.1"}, {"3.9", "3.8.9"}, {"3.7.x", "3.8.9"}, {"3.11.9", "3.11.7"},
	} {
		j.recipe.RuntimeConfig = map[string]string{"runtime_version": c.wanted}
		ch, err := j.versioned("Python", "")
		if err != nil {
			t.Fatal(err)
		}
		var have []tool
		for _, v := range []string{"3.11.7", "2.7.18", "3.6.15", "3.8.9", "3.12.1"} {
			have = append(have, tool{Version: v})
		}
		if got, err := j.take(ch, have); err != nil || got.Version != c.want {
			t.Errorf("wanted %s: took %q, %v; want %s", c.wanted, got.Version, err, c.want)
		}
	}
}

func TestNodeRange(t *testing.T) {
	for _, c := range []struct {
		s    string
		v    string
		want bool
	}{
		{">=18", "20.1.0", true}, {">=18 <20", "20.1.0", false}, {"20.x", "20.1.0", true}, {"20", "20.9.1", true}, {"^18 || ^20.1", "20.2.0", true},
		{"16 - 18", "18.5.0", true}, {"16 - 18", "19.0.0", false}, {"~20.1", "20.2.0", false}, {"*", "4.0.0", true}, {"v20", "20.0.1", true},
	} {
		matches, err := nodeRange(c.s)
		if err != nil || matches(parseFound(c.v)) != c.want {
			t.Errorf("nodeRange(%q) of %s: %v; want %v", c.s, c.v, err, c.want)
		}
	}
}

func TestEnvironmentOfTheBuild(t *testing.T) {
	b := only(t, map[string]string{"node": "echo v20.1.0", "npm": "echo [$PIP_INDEX_URL] [$SECRET] [$npm_config_x] [$CI] [$GIT_TERMINAL_PROMPT] [$GOOS]; read x || echo no input"})
	b.Environ = append(b.Environ, "SECRET=s", "PIP_INDEX_URL=here", "GOOS=plan9")
	var out strings.Builder
	r := app.Recipe{Runtime: "nodejs", Entrypoint: "x", Env: map[string]string{"npm_config_x": "y"}}
	if _, err := b.Build(t.Context(), tree(t, map[string]string{"package.json": `{"dependencies":{"x":"1"}}`}), r, Options{}, &out); err != nil {
		t.Fatal(err)
	}
	if want := "[here] [] [y] [1] [0] []\nno input\n"; !strings.Contains(out.String(), want) {
		t.Errorf("the tool saw %q, want %q", &out, want)
	}
}

func FuzzProcfile(f *testing.F) {
	for _, s := range []string{"web: x", "# c\nweb: a\nweb: b\n", "web:", ": x", "we b: x", "web: a\r\nother: b\r\n", "web: \x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		all, err := parseProcfile(s)
		if err != nil {
			return
		}
		var again strings.Builder
		for name, command := range all {
			if command == "" || strings.ContainsAny(command, "\n\x00") {
				t.Fatalf("%q: %s is %q", s, name, command)
			}
			again.WriteString(name + ": " + command + "\n")
		}
		twice, err := parseProcfile(again.String())
		if err != nil || len(twice) != len(all) || twice["web"] != all["web"] {
			t.Fatalf("%q: read as %q, and that as %q, %v", s, all, twice, err)
		}
	})
}

func FuzzPackage(f *testing.F) {
	for _, s := range []string{`{}`, `{"scripts":{"start":"x","build":1}}`, `{"engines":[],"dependencies":{"a":"1"}}`, `{"packageManager":7,"workspaces":["a"]}`, "\uFEFF{}", `[]`, `{"engines":{"node":">=18"}}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := parsePackage(s)
		if err != nil {
			return
		}
		m.buildScripts(nil)
		if matches, err := nodeRange(m.node); err == nil && matches != nil {
			matches(parseFound("20.1.0"))
		}
	})
}

func FuzzNodeRange(f *testing.F) {
	for _, s := range []string{">=18", "^1 || 2.x", "1 - 2", "~1.2.3-beta", "lts/*", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if matches, err := nodeRange(s); err == nil && matches != nil {
			matches(numbers{20})
		}
		if n, ok := parseWanted(s); ok && (len(n) == 0 || !n.matches(n)) {
			t.Fatalf("%q was read as %v", s, n)
		}
	})
}
