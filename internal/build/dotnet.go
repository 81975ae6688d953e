package build

import (
	"context"
	"path/filepath"
	"strings"
)

const dotnetInstall = "install the .NET SDK: apt install dotnet-sdk-8.0 (from Microsoft's packages where the distribution has none)"

func chooseDotnet(ctx context.Context, j *job) ([]tool, error) {
	if _, err := j.declared(); err != nil {
		return nil, err
	}
	c, err := j.versioned(".NET", dotnetInstall)
	if err != nil {
		return nil, err
	}
	if c.matches != nil {
		// A newer SDK publishes for an older framework, so the version is a minimum.
		wanted := parseFound(c.wanted)
		c.matches = func(found numbers) bool { return len(found) > 0 && found[0] >= wanted[0] }
		c.wanted += " or newer"
	}
	t, err := j.take(c, j.one(ctx, ".NET", "dotnet", "--version"))
	return []tool{t}, err
}

func buildDotnet(ctx context.Context, j *job) (made, error) {
	dotnet := j.tools[0]
	quiet := environ{
		"DOTNET_CLI_TELEMETRY_OPTOUT": "1", "DOTNET_NOLOGO": "1", "DOTNET_SKIP_FIRST_TIME_EXPERIENCE": "1",
		"MSBUILDDISABLENODEREUSE": "1", // no servers that stay behind
	}
	publish := j.at.path("publish")
	argv := []string{"dotnet", "publish", "--configuration", "Release", "--output", "../publish", "-p:UseSharedCompilation=false"}
	if p := j.recipe.Env[buildableVar]; p != "" && !strings.HasPrefix(p, "-") {
		argv = append(argv, p)
	}
	if err := j.run(ctx, command{phase: Compile, argv: argv, env: j.environ(nil, quiet), next: "correct the code or the project file"}); err != nil {
		return made{}, err
	}
	m := made{Path: append(j.before(dotnet, "dotnet"), publish), Env: map[string]string{"DOTNET_CLI_TELEMETRY_OPTOUT": "1"}}
	c, err := j.declared()
	if err != nil {
		return made{}, err
	}
	if c == "" {
		const mark = ".runtimeconfig.json"
		found, _ := filepath.Glob(filepath.Join(publish, "*"+mark))
		if len(found) != 1 {
			return made{}, refuse(Prepare, "add a line such as \"entrypoint: dotnet APP.dll\" to app.yaml, or name the project in "+buildableVar,
				"%d programs were published, and there is no entrypoint", len(found))
		}
		c = "dotnet " + shellQuote(strings.TrimSuffix(found[0], mark)+".dll")
	}
	// The port is known only when the instance starts.
	m.Command = "env ASPNETCORE_URLS=http://0.0.0.0:$PORT " + c
	return m, nil
}
