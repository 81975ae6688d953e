package console

import (
	"encoding/json"
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/app"
)

// words are what templates say things with.
var words = template.FuncMap{
	"ago":      func(t time.Time) string { return since(time.Now(), t) },
	"long":     long,
	"bytes":    byteText,
	"count":    count,
	"mebi":     func(n int64) string { return count((n + 1<<19) >> 20) },
	"percent":  percent,
	"rate":     rate,
	"stamp":    func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) },
	"clock":    func(t time.Time) string { return t.UTC().Format("15:04:05") },
	"clockms":  func(t time.Time) string { return t.UTC().Format("15:04:05.000") },
	"date":     func(t time.Time) string { return t.UTC().Format("2 Jan 2006 15:04:05 UTC") },
	"day":      func(t time.Time) string { return t.UTC().Format("2 Jan 2006") },
	"json":     jsonText,
	"plural":   plural,
	"add":      func(a, b int) int { return a + b },
	"sentence": sentence,
	"short":    short,
	"span":     func(now, t time.Time) string { return since(now, t) },
	"left":     func(t time.Time) string { return long(max(0, time.Until(t).Truncate(time.Second))) },
	"messages": messages,
	"inside":   inside,
	"compact":  compact,
	"segments": segments,
	"item":     itemOf,
	"moment":   moment,
	"endedBy":  endedBy,
	"hundred":  func(share float64) string { return strconv.FormatFloat(math.Round(share*10000)/100, 'f', -1, 64) },
}

// item is an entry of the navigation.
type item struct {
	Text, Path string
	Here       bool
}

func itemOf(name, text, path, here string) item { return item{text, path, name == here} }

// segment is a part of a traffic bar that is 100 wide.
type segment struct {
	From, Width float64
	Colour      int
}

func segments(versions []versionLine) (all []segment) {
	at := 0.0
	for _, v := range versions {
		if v.Share > 0 {
			all = append(all, segment{at, v.Share * 100, v.Colour})
			at += v.Share * 100
		}
	}
	return all
}

// compact is a number that fits a cell.
func compact(n int) string {
	if n < 1000 {
		return strconv.Itoa(n)
	}
	return strconv.FormatFloat(float64(n/100)/10, 'f', -1, 64) + "k"
}

// since is how long ago something was, in one word.
func since(now, t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return long(now.Sub(t))
}

// long is a duration as people say it: two units at most.
func long(d time.Duration) string {
	neg := ""
	if d < 0 {
		neg, d = "−", -d
	}
	two := func(a time.Duration, an string, b time.Duration, bn string) string {
		text := fmt.Sprintf("%s%d %s", neg, d/a, an)
		if rest := d % a / b; rest > 0 {
			text += fmt.Sprintf(" %d %s", rest, bn)
		}
		return text
	}
	switch {
	case d < time.Millisecond && d > 0:
		return fmt.Sprintf("%s%d µs", neg, d.Microseconds())
	case d < time.Second:
		return fmt.Sprintf("%s%d ms", neg, d.Milliseconds())
	case d < 10*time.Second && d%time.Second >= 100*time.Millisecond:
		return fmt.Sprintf("%s%.1f s", neg, d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%s%d s", neg, int(d.Seconds()))
	case d < time.Hour:
		return two(time.Minute, "min", time.Second, "s")
	case d < 24*time.Hour:
		return two(time.Hour, "h", time.Minute, "min")
	}
	return two(24*time.Hour, "d", time.Hour, "h")
}

// byteText is a number of bytes, in decimal units.
func byteText(n int64) string {
	f, unit := float64(n), "B"
	for _, next := range []string{"kB", "MB", "GB", "TB"} {
		if f < 1000 {
			break
		}
		f, unit = f/1000, next
	}
	if unit == "B" || f >= 100 {
		return fmt.Sprintf("%.0f %s", f, unit)
	}
	return fmt.Sprintf("%.1f %s", f, unit)
}

// count is a whole number with thin spaces between thousands.
func count(n any) string {
	text := fmt.Sprint(n)
	sign := ""
	if strings.HasPrefix(text, "-") {
		sign, text = "−", text[1:]
	}
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "\u202f" + text[i:]
	}
	return sign + text
}

// percent is a share from 0 to 1.
func percent(share float64) string {
	return strconv.FormatFloat(math.Round(share*1000)/10, 'f', -1, 64) + " %"
}

// rate is how many a second.
func rate(perSecond float64) string {
	switch {
	case perSecond == 0:
		return "0"
	case perSecond < 10:
		return strconv.FormatFloat(math.Round(perSecond*10)/10, 'f', 1, 64)
	}
	return count(int(math.Round(perSecond)))
}

func jsonText(v any) (string, error) {
	text, err := json.Marshal(v)
	return string(text), err
}

func plural(n int, one, many string) string {
	if n == 1 {
		return count(n) + " " + one
	}
	return count(n) + " " + many
}

// inside is what tells an instance from the others of its version.
func inside(id string, k app.Key) string {
	if rest, is := strings.CutPrefix(id, "aef-"+k.Service+"-"+k.Version+"-"); is {
		return rest
	}
	return short(id)
}

// short is the end of a long name, which is what tells it from others.
func short(id string) string {
	const most = 28
	if len(id) <= most {
		return id
	}
	return "…" + id[len(id)-most:]
}
