package build

import (
	"context"
	"strings"
)

// Settings of ours in build_env_variables.
const (
	systemPackagesVar = "HOLDFAST_PYTHON_SYSTEM_PACKAGES" // "1": Python sees the system's packages
	skipInstallVar    = "HOLDFAST_SKIP_INSTALL"           // "1": nothing is installed

	// buildableVar is the buildpacks' name of what is to be compiled.
	buildableVar = "GOOGLE_BUILDABLE"
)

// appRuntime is what is done for one of App Engine's runtimes.
type appRuntime struct {
	// choose finds the toolchain before anything is copied. What it returns is
	// part of the build's name.
	choose func(ctx context.Context, j *job) ([]tool, error)

	// build installs and compiles in the copy, and says how it is started.
	build func(ctx context.Context, j *job) (made, error)
}

// tool is an interpreter, a compiler or a package manager of the machine.
type tool struct {
	Name    string // as people call it: Python
	Path    string // of the executable
	Version string // 3.12.1
}

// runtime returns what is done for the recipe's runtime, after the refusals that
// concern all of them.
func (j *job) runtime() (appRuntime, error) {
	dockerfile, cloudbuild := j.has("Dockerfile"), j.has("cloudbuild.yaml")
	name := strings.ToLower(j.recipe.Runtime)
	switch {
	case name != "custom" && dockerfile:
		return appRuntime{}, refuse(Prepare, "set runtime: custom, or remove the Dockerfile",
			"there is a Dockerfile, but app.yaml says runtime: %s", j.recipe.Runtime)
	case name == "custom" && dockerfile && cloudbuild:
		return appRuntime{}, refuse(Prepare, "keep one of them",
			"runtime custom takes a Dockerfile or a cloudbuild.yaml, and both are there")
	}
	switch name {
	case "python":
		return appRuntime{choosePython, buildPython}, nil
	case "nodejs":
		return appRuntime{chooseNode, buildNode}, nil
	case "go":
		return appRuntime{chooseGo, buildGo}, nil
	case "php":
		return appRuntime{choosePHP, buildPHP}, nil
	case "ruby":
		return appRuntime{chooseRuby, buildRuby}, nil
	case "java":
		return appRuntime{chooseJava, buildJava}, nil
	case "dotnet", "aspnetcore":
		return appRuntime{chooseDotnet, buildDotnet}, nil
	case "custom":
		return appRuntime{chooseCustom, buildCustom}, nil
	}
	return appRuntime{}, refuse(Prepare, "use python, nodejs, go, php, ruby, java, dotnet or custom",
		"there is no runtime %q", j.recipe.Runtime)
}

// chooseCustom needs no toolchain, only something to start.
func chooseCustom(_ context.Context, j *job) ([]tool, error) {
	for _, name := range []string{"Dockerfile", "cloudbuild.yaml"} {
		if j.has(name) {
			return nil, refuse(Prepare, "to run the app as a local process, leave "+name+" out and give app.yaml an entrypoint",
				"runtime custom with a %s needs the container driver, which is not there yet", name)
		}
	}
	c, err := j.declared()
	if err == nil && c == "" {
		err = refuse(Prepare, "add a line such as \"entrypoint: ./server\" to app.yaml",
			"runtime custom without a Dockerfile needs an entrypoint")
	}
	return nil, err
}

// buildCustom builds nothing: the app runs as it is.
func buildCustom(_ context.Context, j *job) (made, error) {
	c, err := j.declared()
	return made{Command: c}, err
}

// skipInstall says whether the app asked for no installing.
func (j *job) skipInstall() bool {
	if !j.set(skipInstallVar) {
		return false
	}
	j.note("%s is set: nothing is installed", skipInstallVar)
	return true
}

// set says whether a switch of ours is on.
func (j *job) set(name string) bool {
	switch strings.ToLower(j.recipe.Env[name]) {
	case "", "0", "false", "no":
		return false
	}
	return true
}
