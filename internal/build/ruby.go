package build

import (
	"context"
)

const rubyInstall = "apt install ruby ruby-dev ruby-bundler"

func chooseRuby(ctx context.Context, j *job) ([]tool, error) {
	if c, err := j.declared(); err != nil {
		return nil, err
	} else if c == "" && j.firstOf("bin/rails", "config.ru") == "" {
		return nil, refuse(Prepare, "add a line such as \"entrypoint: bundle exec puma -p $PORT\" to app.yaml",
			"there is no entrypoint, no Procfile, no bin/rails and no config.ru")
	}
	c, err := j.versioned("Ruby", rubyInstall)
	if err != nil {
		return nil, err
	}
	t, err := j.take(c, j.one(ctx, "Ruby", "ruby", "-e", "print RUBY_VERSION"))
	if err != nil {
		return nil, err
	}
	tools := []tool{t}
	if j.has("Gemfile") {
		path, ok := j.machine.find("bundle")
		if !ok {
			return nil, refuse(Prepare, "apt install ruby-bundler", "the Gemfile needs Bundler, which this machine does not have")
		}
		tools = append(tools, tool{Name: "Bundler", Path: path})
	}
	return tools, nil
}

func buildRuby(ctx context.Context, j *job) (made, error) {
	m := made{Env: map[string]string{"RACK_ENV": "production", "RAILS_ENV": "production", "APP_ENV": "production"}}
	exec := ""
	if j.has("Gemfile") {
		exec = "bundle exec "
		if !j.skipInstall() {
			m.Env["BUNDLE_PATH"] = j.at.path("bundle")
			m.Env["BUNDLE_WITHOUT"] = "development:test"
			if j.has("Gemfile.lock") {
				m.Env["BUNDLE_FROZEN"] = "true"
			}
			err := j.run(ctx, command{phase: Install, argv: []string{"bundle", "install"}, env: j.environ(nil, m.Env),
				next: "correct the Gemfile, or install what its gems need to compile: apt install build-essential ruby-dev"})
			if err != nil {
				return made{}, err
			}
		}
	}
	var err error
	if m.Command, err = j.declared(); err != nil || m.Command != "" {
		return m, err
	}
	if j.has("bin/rails") {
		m.Command = exec + "ruby bin/rails server -b 0.0.0.0 -p $PORT"
	} else {
		m.Command = exec + "rackup -o 0.0.0.0 -p $PORT config.ru"
	}
	return m, nil
}
