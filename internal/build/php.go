package build

import (
	"context"
	"fmt"
	"os"
	"path"
	"strings"
)

const (
	phpInstall = "apt install php-cli"

	// phpWorkers is how many requests PHP's own server treats at once.
	phpWorkers = "4"
)

// phpRouter lets PHP's own server find files first and the front controller
// otherwise, which is what App Engine's nginx does. By itself the server does so
// only for index.php.
const phpRouter = `<?php
$path = rawurldecode((string) parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH));
if ($path !== '/' && !str_contains($path, "\0") && is_file($_SERVER['DOCUMENT_ROOT'] . $path)) {
    return false;
}
$front = '/' . %s;
$_SERVER['SCRIPT_NAME'] = $_SERVER['PHP_SELF'] = $front;
$_SERVER['SCRIPT_FILENAME'] = $_SERVER['DOCUMENT_ROOT'] . $front;
chdir(dirname($_SERVER['SCRIPT_FILENAME']));
require $_SERVER['SCRIPT_FILENAME'];
`

func choosePHP(ctx context.Context, j *job) ([]tool, error) {
	c, err := j.declared()
	if err != nil {
		return nil, err
	}
	if c == "" {
		if _, _, err := j.phpRoots(); err != nil {
			return nil, err
		}
	}
	want, err := j.versioned("PHP", phpInstall)
	if err != nil {
		return nil, err
	}
	t, err := j.take(want, j.one(ctx, "PHP", "php", "-r", "echo PHP_VERSION;"))
	if err != nil {
		return nil, err
	}
	tools := []tool{t}
	if j.has("composer.json") && !j.set(skipInstallVar) {
		path, ok := j.machine.find("composer")
		if !ok {
			return nil, refuse(Prepare, "apt install composer", "composer.json needs Composer, which this machine does not have")
		}
		tools = append(tools, tool{Name: "Composer", Path: path})
	}
	return tools, nil
}

// phpRoots are the documents' directory and the front controller within it.
func (j *job) phpRoots() (root, front string, err error) {
	root = j.recipe.RuntimeConfig["document_root"]
	front = j.recipe.RuntimeConfig["front_controller_file"]
	if root == "" {
		return "", "", refuse(Prepare, "add it, as in \"document_root: public\"; \".\" is the app's directory",
			"runtime php needs document_root under runtime_config")
	}
	for _, p := range []string{root, front} {
		if clean := path.Clean(strings.TrimPrefix(p, "./")); path.IsAbs(p) || clean == ".." || strings.HasPrefix(clean, "../") {
			return "", "", refuse(Prepare, "", "%s leads out of the app", p)
		}
	}
	return path.Clean(root), front, nil
}

func buildPHP(ctx context.Context, j *job) (made, error) {
	if j.has("composer.json") && !j.skipInstall() {
		err := j.run(ctx, command{phase: Install, env: j.environ(nil, environ{"COMPOSER_NO_INTERACTION": "1", "COMPOSER_ALLOW_SUPERUSER": "1"}),
			argv: []string{"composer", "install", "--no-dev", "--no-progress", "--prefer-dist", "--optimize-autoloader"},
			next: "correct composer.json and composer.lock"})
		if err != nil {
			return made{}, err
		}
	}
	m := made{Env: map[string]string{"PHP_CLI_SERVER_WORKERS": phpWorkers}}
	var err error
	if m.Command, err = j.declared(); err != nil || m.Command != "" {
		return m, err
	}
	root, front, err := j.phpRoots()
	if err != nil {
		return made{}, err
	}
	m.Command = "php -S 0.0.0.0:$PORT -t " + shellQuote(root)
	if front != "" && front != "index.php" {
		router := j.at.path("router.php")
		literal := "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(strings.TrimPrefix(front, "./")) + "'"
		if err := os.WriteFile(router, fmt.Appendf(nil, phpRouter, literal), 0o644); err != nil {
			return made{}, fmt.Errorf("write the front controller's router: %w", err)
		}
		m.Command += " " + shellQuote(router)
	}
	return m, nil
}
