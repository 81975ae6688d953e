package config

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/app"
	"holdfast/internal/spelling"
)

// Input is everything that says something about settings. What comes first
// here wins; what says nothing leaves it to the next; the defaults are last.
type Input struct {
	Flags    map[string][]string // by setting name, only those that were given
	Environ  []string            // KEY=VALUE, as os.Environ has it; an empty value says nothing
	File     []byte              // YAML; nil when there is none
	FileName string              // for messages
}

// Value is one setting as it came out.
type Value struct {
	Setting
	Text string // as it was written, but for passwords; lists with a comma in between
	From string // "flag", "environment", FileName:LINE, or "default"
}

// Error is a setting that cannot be taken.
type Error struct {
	From string // where it stands: --FLAG, VARIABLE or FILE:LINE
	Key  string // the key in the file; "" for the other sources
	Text string // what was written; "" for a key that is not known
	What string // what is wrong
	Hint string // what to do about it
}

// Error names source and key, what is wrong, and what to write instead.
func (e *Error) Error() string {
	where := e.From
	if e.Key != "" {
		where += ": " + e.Key
	}
	if e.Text != "" {
		where += "=" + quote(e.Text)
	}
	text := where + ": " + e.What
	if e.Hint != "" {
		text += ": " + e.Hint
	}
	return text
}

// Is makes it an app.ErrInvalid.
func (e *Error) Is(target error) bool { return target == app.ErrInvalid }

// textMax bounds what a message repeats of a value.
const textMax = 100

func quote(text string) string {
	if r := []rune(text); len(r) > textMax {
		text = string(r[:textMax]) + "..."
	}
	return fmt.Sprintf("%q", text)
}

// said is one value as a source has it.
type said struct {
	text string
	from string // for Value
	err  Error  // From, Key filled in: what an error about it says
}

// Read makes the configuration of what was said, and tells for every setting,
// in the table's order, what it is and who said so. The first thing that is
// wrong is an *Error.
func Read(in Input) (Config, []Value, error) {
	file, err := readFile(in.FileName, in.File)
	if err != nil {
		return Config{}, nil, err
	}
	environ, err := readEnviron(in.Environ)
	if err != nil {
		return Config{}, nil, err
	}
	var c Config
	settings := Settings()
	values := make([]Value, len(settings))
	// Those whose default depends on others come when the others are known.
	for _, i := range slices.Concat(indices(settings, false), indices(settings, true)) {
		s := settings[i]
		now := said{text: s.Default, from: "default", err: Error{From: "the default", Key: s.Key()}}
		if s.implied != nil {
			if text := s.implied(c); text != "" {
				now.text = text
			}
		}
		if f, ok := file[s.Key()]; ok {
			now = f
		}
		if e, ok := environ[s.Name]; ok {
			now = e
		}
		if f, ok := in.Flags[s.Name]; ok && len(f) > 0 {
			now = said{text: f[len(f)-1], from: "flag", err: Error{From: s.Flag()}}
			if s.many {
				now.text = strings.Join(f, ",")
			}
		}
		wrong := s.set(&c, now.text)
		if s.shown != nil {
			now.text = s.shown(now.text)
		}
		if wrong != nil {
			now.err.Text, now.err.What, now.err.Hint = now.text, wrong.what, wrong.hint
			return Config{}, nil, &now.err
		}
		values[i] = Value{Setting: s, Text: now.text, From: now.from}
	}
	if wrong := together(c, values); wrong != nil {
		return Config{}, nil, wrong
	}
	return c, values, nil
}

// indices are where settings stand whose default depends on others, or does not.
func indices(all []Setting, implied bool) (at []int) {
	for i, s := range all {
		if (s.implied != nil) == implied {
			at = append(at, i)
		}
	}
	return at
}

// others are the variables of ours that are no settings of the server, without
// the prefix.
var others = []string{"CONFIG", "SERVER", "TOKEN_FILE", "DRAIN_FILE"}

// readEnviron finds the settings in the environment, by name. A variable that
// begins like ours and is nearly one of them is a slip; any other is left to
// whom it belongs.
func readEnviron(environ []string) (map[string]said, error) {
	names := map[string]string{} // by variable, without the prefix
	known := slices.Clone(others)
	for _, s := range Settings() {
		short := strings.TrimPrefix(s.Variable(), prefix)
		names[short] = s.Name
		known = append(known, short)
	}
	found := map[string]said{}
	for _, e := range environ {
		variable, text, _ := strings.Cut(e, "=")
		short, ours := strings.CutPrefix(variable, prefix)
		if !ours || text == "" {
			continue
		}
		if name, ok := names[short]; ok {
			found[name] = said{text: text, from: "environment", err: Error{From: variable}}
			continue
		}
		if slices.Contains(known, short) {
			continue
		}
		if near, ok := spelling.Nearest(short, slices.Values(known)); ok {
			return nil, &Error{From: variable, What: "no setting is called so", Hint: fmt.Sprintf("did you mean %s?", prefix+near)}
		}
	}
	return found, nil
}
