package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"holdfast/internal/admin"
	"holdfast/internal/auth"
)

// contextsFile is in the user's configuration; it holds tokens, so that it is
// readable for its owner only.
const contextsFile = "contexts.json"

// localContext names no saved context: the server of this machine.
const localContext = "local"

// statusTime bounds asking a server whether it is one.
const statusTime = 20 * time.Second

// contexts are the servers whose tokens were kept.
type contexts struct {
	Current  string                  `json:"current,omitempty"`
	Contexts map[string]savedContext `json:"contexts"`
}

type savedContext struct {
	URL   string `json:"url"`
	Token string `json:"token"`
}

func readContexts() (contexts, error) {
	c := contexts{Contexts: map[string]savedContext{}}
	dir, err := configDir()
	if err != nil {
		return c, nil // no home directory, so nothing is kept
	}
	err = readJSON(filepath.Join(dir, contextsFile), &c)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, &problem{what: fmt.Sprintf("the saved servers cannot be read: %v", err), err: err, next: "Mend or remove the file, and log in again."}
	}
	return c, nil
}

func (c contexts) write() error {
	dir, err := configDir()
	if err != nil {
		return fmt.Errorf("keep the server's token: %w", err)
	}
	return writeJSON(filepath.Join(dir, contextsFile), c, 0o600)
}

func newLogin() *cobra.Command {
	var tokenFile, name string
	cmd := &cobra.Command{
		Use:   "login URL",
		Short: "Keep a server's URL and token, for the commands that follow",
		Long: `Asks the server at URL whether the token is good, keeps both, and has the commands
that follow speak to it. Without --token-file the token is asked for, or read from
standard input. The token of a server is in the file "token" of its data directory.`,
		Example: `  holdfast login https://holdfast.example.org --token-file=token
  ssh box sudo cat /var/lib/holdfast/token | holdfast login http://127.0.0.1:9000 --name=box`,
		Args: exactly(1, "login takes one server, as in: holdfast login http://127.0.0.1:8079"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return login(cmd.Context(), args[0], name, tokenFile)
		},
	}
	cmd.Flags().StringVar(&tokenFile, "token-file", "", "file that holds the token")
	cmd.Flags().StringVar(&name, "name", "", "keep it by this name (default: the server's host name)")
	return cmd
}

func login(ctx context.Context, server, name, tokenFile string) error {
	address, err := serverURL(server)
	if err != nil {
		return err
	}
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	if name == "" {
		name = u.Hostname()
	}
	if name == localContext {
		return misuse{fmt.Errorf("--name=%s stands for the server of this machine; choose another", name)}
	}
	token, err := readToken(tokenFile)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme == "http" && u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		fmt.Fprintln(os.Stderr, "! the token goes over the network readable for others; a tunnel such as ssh -L, or https, would hide it")
	}
	ctx, cancel := context.WithTimeout(ctx, statusTime)
	defer cancel()
	client := admin.Client{URL: address, Token: token}
	status, err := client.Status(ctx)
	if err != nil {
		return told(err)
	}
	all, err := readContexts()
	if err != nil {
		return err
	}
	all.Contexts[name], all.Current = savedContext{address, token}, name
	if err := all.write(); err != nil {
		return err
	}
	fmt.Printf("Logged in to %s (Holdfast %s). Commands speak to it from now on; holdfast contexts use %s ends that.\n", address, status.Version, localContext)
	return nil
}

// readToken reads a token from a file, a person or a pipe.
func readToken(file string) (string, error) {
	if file != "" {
		token, err := auth.Read(file)
		if err != nil {
			return "", &problem{what: fmt.Sprintf("the token cannot be read: %v", err), err: err}
		}
		return token, nil
	}
	var text []byte
	var err error
	if stdin := int(os.Stdin.Fd()); term.IsTerminal(stdin) {
		fmt.Fprint(os.Stderr, "Token: ")
		text, err = term.ReadPassword(stdin)
		fmt.Fprintln(os.Stderr)
	} else {
		text, err = io.ReadAll(io.LimitReader(os.Stdin, smallFileMax))
	}
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" {
		return "", &problem{what: "no token was given", next: "It is in the file \"token\" of the server's data directory: --token-file=FILE."}
	}
	return token, nil
}

func newContexts() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:     "contexts",
		Short:   "List the servers that were logged in to; use or remove one",
		Example: "  holdfast contexts\n  holdfast contexts use box\n  holdfast contexts use local",
		Args:    exactly(0, "contexts takes no argument; use and remove do"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return listContexts(format)
		},
	}
	formatFlag(cmd, &format)
	use := &cobra.Command{
		Use:               "use NAME",
		Short:             "Have commands speak to this server; local is the one of this machine",
		Example:           "  holdfast contexts use box",
		Args:              exactly(1, "contexts use takes one name"),
		ValidArgsFunction: completeContexts,
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeContexts(args[0], func(c *contexts, name string) { c.Current = name })
		},
	}
	remove := &cobra.Command{
		Use:               "remove NAME",
		Short:             "Forget a server and its token",
		Example:           "  holdfast contexts remove box",
		Args:              exactly(1, "contexts remove takes one name"),
		ValidArgsFunction: completeContexts,
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeContexts(args[0], func(c *contexts, name string) {
				delete(c.Contexts, name)
				if c.Current == name {
					c.Current = ""
				}
			})
		},
	}
	cmd.AddCommand(use, remove)
	return cmd
}

func listContexts(format string) error {
	all, err := readContexts()
	if err != nil {
		return err
	}
	type row struct {
		Name    string `json:"name"`
		URL     string `json:"url"`
		Current bool   `json:"current"`
	}
	rows := []row{}
	t := newTable("NAME", "URL", "CURRENT")
	for _, name := range slices.Sorted(maps.Keys(all.Contexts)) {
		r := row{name, all.Contexts[name].URL, name == all.Current}
		rows = append(rows, r)
		t.add(r.Name, r.URL, yes(r.Current))
	}
	return show(format, rows, t, "no server was logged in to; commands speak to the one of this machine")
}

func changeContexts(name string, change func(c *contexts, name string)) error {
	all, err := readContexts()
	if err != nil {
		return err
	}
	if _, ok := all.Contexts[name]; !ok && name != localContext {
		known := append(slices.Sorted(maps.Keys(all.Contexts)), localContext)
		return &problem{what: fmt.Sprintf("no server is kept as %s", name), next: "There are: " + strings.Join(known, ", ")}
	}
	change(&all, name)
	return all.write()
}

func completeContexts(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	all, err := readContexts()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return append(slices.Sorted(maps.Keys(all.Contexts)), localContext), cobra.ShellCompDirectiveNoFileComp
}
