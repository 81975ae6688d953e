package process

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"holdfast/internal/app"
)

// defaultPath is where programs are when nobody says so.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// inherited is all that an app gets of our own environment: where programs are,
// which language and time zone, and whom to trust. Ours may hold secrets that
// are none of its business.
var inherited = []string{"PATH", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR"}

// The shares of an instance's memory that a runtime is told to use, where no
// cgroup holds it: the rest is for what the runtime does not count.
const (
	goMemoryShare   = 0.90 // GOMEMLIMIT counts nearly all that Go uses
	nodeMemoryShare = 0.75 // V8's old space leaves out buffers and young objects
)

// environment builds an app's environment. Later ones win: ours, what the
// runtime adds, what the app asks for, what App Engine and we set.
func environment(mark string, in *instance, v app.Version, user identity, soften bool) []string {
	env := map[string]string{"PATH": defaultPath}
	for _, name := range inherited {
		if value := os.Getenv(name); value != "" {
			env[name] = value
		}
	}
	env["HOME"] = os.Getenv("HOME")
	if user.other() {
		env["HOME"], env["USER"], env["LOGNAME"] = user.Home, user.Name, user.Name
	}
	if env["HOME"] == "" {
		env["HOME"] = filepath.Join(in.dir, appDir)
	}
	env["TMPDIR"] = filepath.Join(in.dir, tmpDir)
	maps.Copy(env, v.Artifact.Env)
	maps.Copy(env, v.Env)
	if soften {
		softenMemory(env, v.Resources.MemoryMB())
	}
	env["PORT"] = strconv.Itoa(in.record.Port)
	env["GAE_INSTANCE"] = in.record.ID
	env["GAE_SERVICE"] = v.Key.Service
	env["GAE_VERSION"] = v.Key.Version
	env["GAE_MEMORY_MB"] = strconv.Itoa(v.Resources.MemoryMB())
	env["GOOGLE_CLOUD_PROJECT"] = v.Key.App
	env[markVariable] = mark
	env[drainVariable] = drainFile(in.dir)

	list := make([]string, 0, len(env))
	for name, value := range env {
		// Neither can be passed on; app.yaml's reader refuses them earlier.
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(value, "\x00") {
			continue
		}
		list = append(list, name+"="+value)
	}
	slices.Sort(list)
	return list
}

// softenMemory asks the runtimes that can be asked to stay within memoryMB,
// unless the app said something itself.
func softenMemory(env map[string]string, memoryMB int) {
	if memoryMB <= 0 {
		return
	}
	if _, said := env["GOMEMLIMIT"]; !said {
		env["GOMEMLIMIT"] = fmt.Sprintf("%dMiB", int(float64(memoryMB)*goMemoryShare))
	}
	if opts := env["NODE_OPTIONS"]; !strings.Contains(opts, "max-old-space-size") && !strings.Contains(opts, "max_old_space_size") {
		opts += fmt.Sprintf(" --max-old-space-size=%d", int(float64(memoryMB)*nodeMemoryShare))
		env["NODE_OPTIONS"] = strings.TrimSpace(opts)
	}
}
