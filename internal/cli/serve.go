package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/config"
	"holdfast/internal/driver/process"
)

// settingsFile is read when no other is named and it is here.
const settingsFile = "holdfast.yaml"

// serveOptions are the flags of serve.
type serveOptions struct {
	settings map[string]*settingFlag // by name
	file     string
	check    bool
	format   string
}

func newServe() *cobra.Command {
	o := serveOptions{settings: map[string]*settingFlag{}}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run many apps for months: the router and the admin API",
		Long: `Serves what is deployed to it: routes requests and sockets to the apps' instances,
keeps as many of them running as there should be, and takes the commands of operators.
What it was told is kept in its data directory and outlives every restart. SIGTERM and
Ctrl-C stop it politely; a second one does it at once.

Every setting is a flag, a variable or a key of a YAML file; a flag wins over the
variable, the variable over the file. The file is --config or HOLDFAST_CONFIG, else
` + settingsFile + ` here. docs/configuration.md tells about each.

` + config.Help(),
		Example: `  holdfast serve
  holdfast serve --listen=:80 --domain=apps.example.org --data=/var/lib/holdfast
  holdfast serve --check --config=/etc/holdfast/holdfast.yaml`,
		Args: exactly(0, "serve takes no argument; deploy brings it an app"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	for _, s := range config.Settings() {
		flag := &settingFlag{takes: s.Takes, text: s.Default}
		o.settings[s.Name] = flag
		// Back-quotes name a flag's value for pflag; ours are of another kind.
		added := f.VarPF(flag, s.Name, "", strings.ReplaceAll(s.Meaning, "`", ""))
		if s.Switch() {
			added.NoOptDefVal = "true"
		}
		complete(cmd, s.Name, nil)
	}
	f.StringVar(&o.file, "config", "", "read settings from this YAML file (HOLDFAST_CONFIG)")
	f.BoolVar(&o.check, "check", false, "print every setting and who said it, refuse what is wrong, and start nothing")
	formatFlag(cmd, &o.format)
	return cmd
}

// settingFlag is the flag of a setting: text, until config looks at it.
type settingFlag struct {
	takes string
	text  string   // the default, for help
	given []string // as often as the flag was there
}

func (s *settingFlag) String() string { return s.text }
func (s *settingFlag) Type() string   { return s.takes }
func (s *settingFlag) Set(text string) error {
	s.given = append(s.given, text)
	return nil
}

func (o serveOptions) run(cmd *cobra.Command) error {
	if err := checkFormat(o.format); err != nil {
		return err
	}
	c, values, err := o.read()
	if err != nil {
		return err
	}
	for _, addr := range c.Admin {
		if err := hidden(c, addr); err != nil {
			return err
		}
	}
	if o.check {
		return printSettings(o.format, c, values)
	}
	return serve(cmd.Context(), c)
}

// read makes the configuration of flags, environment and file.
func (o serveOptions) read() (config.Config, []config.Value, error) {
	in := config.Input{Flags: map[string][]string{}, Environ: os.Environ()}
	for name, flag := range o.settings {
		if flag.given != nil {
			in.Flags[name] = flag.given
		}
	}
	named := o.file
	if named == "" {
		named = os.Getenv("HOLDFAST_CONFIG")
	}
	in.FileName = named
	if named == "" {
		in.FileName = settingsFile
	}
	var err error
	in.File, err = readAtMost(in.FileName, config.FileBytesMax+1)
	if err != nil && (named != "" || !errors.Is(err, fs.ErrNotExist)) {
		return config.Config{}, nil, &problem{
			what: fmt.Sprintf("the settings cannot be read: %v", err), err: err,
			next: "Name the file with --config, or leave it out for the defaults.",
		}
	}
	c, values, err := config.Read(in)
	var wrong *config.Error
	if errors.As(err, &wrong) {
		if strings.HasPrefix(wrong.From, "--") {
			return c, nil, misuse{err}
		}
		return c, nil, &problem{what: err.Error(), err: err, next: "holdfast serve --check tells whether all is well without starting anything."}
	}
	return c, values, err
}

// printSettings prints what holds and who said it.
func printSettings(format string, c config.Config, values []config.Value) error {
	type row struct {
		Setting string `json:"setting"`
		Value   string `json:"value"`
		From    string `json:"from"`
	}
	rows := []row{}
	t := newTable("SETTING", "VALUE", "FROM")
	for _, v := range values {
		text := v.Text
		if v.Name == "data" {
			text = c.Data // whole: it depends on the folder
		}
		rows = append(rows, row{v.Name, text, v.From})
		t.add(v.Name, text, v.From)
	}
	if err := show(format, rows, t, ""); err != nil {
		return err
	}
	for _, w := range warnings(c) {
		fmt.Fprintln(os.Stderr, "! "+w)
	}
	return nil
}

// hidden refuses to let tokens pass readable for others, unless that was asked
// for: addr is where the admin API listens, which speaks TLS where it can.
func hidden(c config.Config, addr string) error {
	if c.AdminPlain || speaksTLS(c) || local(addr) {
		return nil
	}
	return &problem{
		what: fmt.Sprintf("the admin API would be open to other machines at %s, and speaks plain HTTP without a certificate: tokens would pass there readable for others", addr),
		next: "Have certificates obtained with --acme-email, or leave it on 127.0.0.1 and use a tunnel, such as ssh -L 8079:127.0.0.1:8079; where the network hides it by itself, say so with --admin-plain.",
	}
}

// local says whether only this machine reaches an address.
func local(addr string) bool {
	host, _, _ := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// warnings are what works, but not as one might think.
func warnings(c config.Config) []string {
	var all []string
	if c.AdminPlain && slices.ContainsFunc(c.Admin, func(addr string) bool { return !local(addr) }) {
		all = append(all, "admin is open to other machines, and tokens pass there readable for others: leave it on 127.0.0.1 and use a tunnel")
	}
	if c.User == "" && os.Geteuid() == 0 {
		all = append(all, "apps run as root: name another user with --user")
	}
	if c.Confine && !process.CanConfine() {
		all = append(all, "this system has no Landlock: apps can read each other's files, and without --user all that the server keeps")
	}
	return all
}

// newLog makes the server's log, on standard error.
func newLog(c config.Config) *slog.Logger {
	o := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == config.FormatJSON {
		return slog.New(slog.NewJSONHandler(os.Stderr, o))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, o))
}
