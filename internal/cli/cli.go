// Package cli is the commands, one file each. It reads flags and app.yaml, talks
// to the person in front of the terminal, and leaves the work to server. Start
// at Main, then run.go.
package cli

import (
	"errors"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"holdfast/internal/driver/process"
)

// keeper is the hidden first argument that makes this program keep one instance
// instead of being the command line; see package process.
const keeper = "keeper"

// Exit codes.
const (
	exitFailed = 1 // what was asked for was refused or failed
	exitMisuse = 2 // it could not be understood
)

// Main runs the command line args, without the program's name, and returns the
// exit code.
func Main(args []string) int {
	if len(args) > 0 && args[0] == keeper {
		return process.Main(args[1:])
	}
	// Everything that comes before a command's own work is about its words:
	// cobra's complaints have no type of their own.
	understood := false
	root := newRoot()
	root.PersistentPreRun = func(*cobra.Command, []string) { understood = true }
	root.SetArgs(args)
	cmd, err := root.ExecuteC()
	if err == nil {
		return 0
	}
	tell(os.Stderr, err)
	var m misuse
	if errors.As(err, &m) || !understood {
		cmd.Println("  See: " + cmd.CommandPath() + " --help")
		return exitMisuse
	}
	return exitFailed
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "holdfast",
		Short: "Run App Engine flexible apps on your own machines",
		Long: `Holdfast reads an App Engine app.yaml, builds the app, runs its instances and puts
before them the front end that App Engine has: WebSockets without set-up, even
distribution, session affinity, health checks, deadlines and polite goodbyes.`,
		Example:       "  holdfast run examples/chat\n  holdfast serve\n  holdfast deploy examples/chat",
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return misuse{err}
	})
	group := func(title string, commands ...*cobra.Command) {
		root.AddGroup(&cobra.Group{ID: title, Title: title})
		for _, c := range commands {
			c.GroupID = title
		}
		root.AddCommand(commands...)
	}
	group("On this machine:", newInit(), newRun(), newServe())
	group("Change what a server runs:", newDeploy(), newTraffic(), newRollback(), newDrill(), newBackup(), newRestore())
	group("Look at it, and at one thing of it:", newServices(), newVersions(), newInstances(), newOperations(),
		newDescribe(), newDispatch(), newLogs(), newSockets(), newStatus(), newConsole())
	group("Which server:", newLogin(), newContexts(), newGcloud(), newTokens(), newCertificates())
	return root
}

// version is the module version this binary was built from, or "dev".
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "dev"
}
