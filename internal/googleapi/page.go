package googleapi

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// pageMax is how many entries one answer lists when nobody says, and at most.
const pageMax = 1000

// page is the part of a list that a request asks for, and the token of the
// next. The list is sorted by key, and keys are unique: a token is the key of
// the last entry that was told, so that what comes and goes meanwhile neither
// repeats nor hides others.
func page[T any](c *call, parameter string, most int, all []T, key func(T) string) (some []T, next string, err error) {
	size := most
	if text := c.query.Get(parameter); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return nil, "", wrong(parameter, "%s: want a number", shown(text))
		}
		if n > 0 {
			size = min(n, most)
		}
	}
	from := 0
	if token := c.query.Get("pageToken"); token != "" {
		after, err := base64.RawURLEncoding.DecodeString(token)
		if err != nil {
			return nil, "", wrong("pageToken", "%s is none of this server's", shown(token))
		}
		from = sort.Search(len(all), func(i int) bool { return key(all[i]) > string(after) })
	}
	to := min(len(all), from+size)
	if to < len(all) {
		next = base64.RawURLEncoding.EncodeToString([]byte(key(all[to-1])))
	}
	return all[from:to], next, nil
}

// view reads which of two views is asked for, by their names; no word means basic.
func (c *call) view(basic, full string) (all bool, err error) {
	switch view := c.query.Get("view"); strings.ToUpper(view) {
	case "", basic, "0":
		return false, nil
	case full, "1":
		return true, nil
	default:
		return false, wrong("view", "%s: want %s or %s", shown(view), basic, full)
	}
}

// patch reads the request's JSON into v, and returns what of it is to be changed:
// what updateMask names, else whatever the JSON has at its first level.
func (c *call) patch(v any) (masks []string, err error) {
	names, err := c.object(v)
	if err != nil {
		return nil, err
	}
	if masks = c.masks(); len(masks) == 0 {
		masks = slices.Sorted(maps.Keys(names))
	}
	return masks, nil
}

// masks reads updateMask: paths with commas in between, in either spelling. It
// may end with a comma.
func (c *call) masks() []string {
	var all []string
	for _, text := range append(c.query["updateMask"], c.query["update_mask"]...) {
		for p := range strings.SplitSeq(text, ",") {
			if p = camel(strings.TrimSpace(p)); p != "" {
				all = append(all, p)
			}
		}
	}
	return all
}

// camel spells min_total_instances as minTotalInstances.
func camel(s string) string {
	var b strings.Builder
	up := false
	for _, r := range s {
		switch {
		case r == '_':
			up = true
		case up:
			b.WriteString(strings.ToUpper(string(r)))
			up = false
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// yes reads a parameter that is true or false, which gcloud writes as Python
// does; absent is false.
func (c *call) yes(name string) (bool, error) {
	text := c.query.Get(name)
	if text == "" {
		return false, nil
	}
	b, err := strconv.ParseBool(text)
	if err != nil {
		return false, wrong(name, "%s: want true or false", shown(text))
	}
	return b, nil
}

// fieldsDepth bounds how deep ?fields= may go.
const fieldsDepth = 20

// selection is a parsed ?fields=: what is kept of an object, by name; nil is
// all of it.
type selection map[string]selection

// parseFields reads a partial response's fields, as in
// "nextPageToken,items(name,size),a/b/c". "*" is every name.
func parseFields(text string) (selection, error) {
	bad := func() error {
		return wrong("fields", "%s: want names, as in nextPageToken,items(name,size)", shown(text))
	}
	rest := text
	var list func(depth int) (selection, bool)
	list = func(depth int) (selection, bool) {
		if depth > fieldsDepth {
			return nil, false
		}
		s := selection{}
		for {
			at, down := s, depth // where the path has come to
			for {
				n := strings.IndexAny(rest, ",()/")
				if n < 0 {
					n = len(rest)
				}
				name := rest[:n]
				rest = rest[n:]
				if down++; name == "" || down > fieldsDepth {
					return nil, false
				}
				if strings.HasPrefix(rest, "/") {
					rest = rest[1:]
					if at[name] == nil {
						at[name] = selection{}
					}
					at = at[name]
					continue
				}
				var below selection
				if strings.HasPrefix(rest, "(") {
					rest = rest[1:]
					var ok bool
					if below, ok = list(down); !ok || !strings.HasPrefix(rest, ")") {
						return nil, false
					}
					rest = rest[1:]
				}
				at[name] = below
				break
			}
			if !strings.HasPrefix(rest, ",") {
				return s, true
			}
			rest = rest[1:]
		}
	}
	s, ok := list(0)
	if !ok || rest != "" {
		return nil, bad()
	}
	return s, nil
}

// partial is what ?fields= keeps of an answer.
func partial(answer any, fields string) (any, error) {
	s, err := parseFields(fields)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(answer)
	if err != nil {
		return nil, err
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		return nil, err
	}
	return s.of(v), nil
}

func (s selection) of(v any) any {
	if s == nil {
		return v
	}
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = s.of(v[i])
		}
	case map[string]any:
		all, any := s["*"]
		for name, value := range v {
			if below, ok := s[name]; ok {
				v[name] = below.of(value)
			} else if any {
				v[name] = all.of(value)
			} else {
				delete(v, name)
			}
		}
	}
	return v
}
