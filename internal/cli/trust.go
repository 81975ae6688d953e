package cli

import (
	"path/filepath"
	"runtime"

	"holdfast/internal/certs"
)

// openAuthority opens the local authority of whoever runs us, which is one for
// all their apps: trusted once, it is trusted for each.
func openAuthority() (*certs.Authority, error) {
	dir, err := configDir()
	if err != nil {
		return nil, &problem{what: "there is no folder to keep the local authority in: " + err.Error(), err: err, next: "Set HOME, or XDG_CONFIG_HOME."}
	}
	a, err := certs.OpenAuthority(filepath.Join(dir, "authority"))
	if err != nil {
		return nil, &problem{what: err.Error(), err: err}
	}
	return a, nil
}

// sayTrust says how to trust the local authority: browsers warn until that is
// done, and nothing else can do it for them.
func (r *runner) sayTrust() {
	path := r.authority.Path
	r.screen.say("  Its certificate is made by a local authority, good for names of this machine and its\n  network alone. To have it trusted, once:\n")
	for _, line := range trustCommands(path) {
		r.screen.say("    %s", line)
	}
	r.screen.say("\n  or for one command: curl --cacert %s\n", shorten(path))
}

// trustCommands are what trusts a certificate here.
func trustCommands(path string) []string {
	if runtime.GOOS == "darwin" {
		return []string{"sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain " + path}
	}
	return []string{
		"sudo cp " + path + " /usr/local/share/ca-certificates/holdfast.crt && sudo update-ca-certificates",
		"certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n holdfast -i " + path + "   # Chromium, from libnss3-tools",
	}
}
