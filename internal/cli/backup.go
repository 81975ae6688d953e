package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"holdfast/internal/app"
	"holdfast/internal/server"
)

func newBackup() *cobra.Command {
	var r remote
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write all that the server was told into one file, while it serves",
		Long: `Writes a tar file of all that a server needs to begin again: what it was told, and the
sources of its versions. Traffic goes on meanwhile. FILE appears whole or not at all;
a hyphen is standard output. It holds environment variables: keep it as you keep
them.`,
		Example:           "  holdfast backup holdfast-2026-11-22.tar\n  holdfast backup - | gzip > backup.tar.gz",
		Args:              exactly(1, "backup takes the file to write"),
		ValidArgsFunction: completeFiles,
		RunE: r.asks(func(ctx context.Context, args []string) error {
			if args[0] == "-" {
				return r.Backup(ctx, os.Stdout)
			}
			return r.backup(ctx, args[0])
		}),
	}
	r.flags(cmd)
	return cmd
}

// backup writes beside the file's place and renames it there once it is whole.
func (r *remote) backup(ctx context.Context, name string) error {
	if dir, err := os.Stat(name); err == nil && dir.IsDir() {
		return misuse{fmt.Errorf("%s is a folder: name the file to write", name)}
	}
	s := newScreen(os.Stdout)
	s.begin("Backing up %s", r.found.url)
	defer s.fail()
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-") // 0600
	if err != nil {
		return &problem{what: fmt.Sprintf("backup: %v", err), err: err}
	}
	defer os.Remove(f.Name()) // fails once it is renamed
	err = r.Backup(ctx, f)
	size, _ := f.Seek(0, io.SeekCurrent)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return &problem{what: fmt.Sprintf("backup: %v", err), err: err}
	}
	s.done("Backed up to %s, %s", name, bytesText(size))
	return nil
}

func newRestore() *cobra.Command {
	var r remote
	var yes bool
	var data string
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make the server what it was when a backup was taken",
		Long: `Has the server take back all that it was told when the backup was taken: services,
versions, traffic. What it was told since is gone. Versions that run and are in the
backup go on running; others are built from their sources again. A hyphen is
standard input.

With --data the data directory of a server that does not run is restored: the way back
when its file is damaged. What was there stays beside it.`,
		Example: `  holdfast restore holdfast-2026-11-22.tar
  zcat backup.tar.gz | holdfast restore - --yes
  holdfast restore holdfast-2026-11-22.tar --data=/var/lib/holdfast`,
		Args:              exactly(1, "restore takes the file of a backup"),
		ValidArgsFunction: completeFiles,
	}
	online := r.asks(func(ctx context.Context, args []string) error {
		in, err := openBackup(args[0])
		if err != nil {
			return err
		}
		defer in.Close()
		if err := sure(yes, "Replace all that %s was told?", r.found.url); err != nil {
			return err
		}
		op, err := r.Restore(ctx, in)
		if err != nil {
			return err
		}
		return r.await(ctx, op, "Restored "+args[0])
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if data != "" {
			return restoreInto(cmd.Context(), data, args[0], yes)
		}
		return online(cmd, args)
	}
	r.flags(cmd)
	yesFlag(cmd, &yes)
	cmd.Flags().StringVar(&data, "data", "", "restore the data directory of a server that does not run")
	return cmd
}

// openBackup opens the file of a backup; a hyphen is standard input.
func openBackup(name string) (*os.File, error) {
	if name == "-" {
		if term.IsTerminal(int(os.Stdin.Fd())) {
			return nil, misuse{errors.New("restore -: a backup has to come through a pipe")}
		}
		return os.Stdin, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, &problem{what: err.Error(), err: err}
	}
	return f, nil
}

// restoreInto restores the data directory of a server that does not run.
func restoreInto(ctx context.Context, data, name string, yes bool) error {
	in, err := openBackup(name)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := sure(yes, "Replace all that is kept in %s?", data); err != nil {
		return err
	}
	former, err := server.RestoreInto(ctx, data, in, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if errors.Is(err, app.ErrBusy) {
		return &problem{what: err.Error(), err: err, next: "Its server runs: leave --data out to restore it while it serves, or stop it first."}
	}
	if err != nil {
		return &problem{what: fmt.Sprintf("restore %s: %v", data, err), err: err}
	}
	newScreen(os.Stdout).done("Restored %s; holdfast serve --data=%s begins from there", name, data)
	if former != "" {
		fmt.Printf("What was there is kept as %s\n", former)
	}
	return nil
}

func completeFiles(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
}
