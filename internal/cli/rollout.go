package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/appyaml"
	"holdfast/internal/build"
	"holdfast/internal/logs"
)

// deploy builds v, starts it and waits until it is served.
func (r *runner) deploy(ctx context.Context, v app.Version) error {
	if err := r.build(ctx, &v); err != nil {
		return err
	}
	v.Version = versionID(v)
	v.CreatedAt = time.Now()
	v.Serving = true
	if err := appyaml.CheckKey(v.Key); err != nil {
		return err
	}
	r.screen.begin("Starting %s", count(v.Scaling.Min, "instance"))
	op, err := r.server.Deploy(ctx, v)
	if err == nil && op.Failure != nil {
		err = r.explain(v, *op.Failure)
	}
	if err != nil {
		r.screen.fail()
		return err
	}
	r.screen.done("%s ready", count(v.Scaling.Min, "instance"))
	// Old builds are only disk space: what cannot be removed now is next time.
	if err := r.builder.Collect(v.Artifact.ID); err != nil {
		r.log.Warn("collect old builds", "err", err)
	}
	return nil
}

// build fills in v's artifact.
func (r *runner) build(ctx context.Context, v *app.Version) error {
	r.screen.begin("Building %s (%s)", shorten(r.dir), v.Recipe.Runtime)
	artifact, err := r.builder.Build(ctx, r.dir, v.Recipe, build.Options{Nearest: r.nearest}, r.screen)
	if err != nil {
		r.screen.fail()
		return buildProblem(err)
	}
	v.Artifact = artifact
	r.screen.done("Built %s", shorten(r.dir))
	return nil
}

// versionID names a version by all that makes its instances what they are.
// The same app with the same settings has the same name, so that instances
// which outlived a crash of ours are known again instead of doubled.
func versionID(v app.Version) string {
	v.Version, v.CreatedAt, v.Serving = "", time.Time{}, false
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain values only
	}
	sum := sha256.Sum256(text)
	return "v" + hex.EncodeToString(sum[:5])
}

// explain turns a failed start into what a person can act on.
func (r *runner) explain(v app.Version, failed app.Failure) error {
	p := &problem{title: "The last lines it wrote:"}
	if lines, err := logs.Tail(r.server.LogPath(failed.Instance), tailLines); err == nil {
		for _, l := range lines {
			p.lines = append(p.lines, l.Text)
		}
	}
	byHand := fmt.Sprintf("Its log is %s.\nBy hand: cd %s && PORT=8081 bash -c 'exec %s'",
		shorten(r.server.LogPath(failed.Instance)), shorten(r.dir), v.Artifact.Command)
	switch failed.Cause {
	case app.Crashed:
		p.what = fmt.Sprintf("the app exits at start: %s", failed.Detail)
		p.next = byHand
	case app.SlowStart:
		p.what = fmt.Sprintf("the app is not ready after %s: %s", v.Ready.Within, failed.Detail)
		p.next = "It has to listen on the port that the environment variable PORT names, on 127.0.0.1 or all addresses"
		if v.Ready.Path != "" {
			p.next += fmt.Sprintf(",\nand to answer GET %s with 200 (readiness_check)", v.Ready.Path)
		}
		p.next += ".\nIf it only needs longer, raise readiness_check.app_start_timeout_sec.\n" + byHand
	default:
		p.what = fmt.Sprintf("the app could not be started (%s): %s", failed.Cause, failed.Detail)
		p.next = byHand
	}
	return p
}

// count says how many of something there are.
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
