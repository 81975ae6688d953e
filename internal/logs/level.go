package logs

import (
	"encoding/json"
	"fmt"
	"strings"

	"holdfast/internal/app"
)

// Level is how grave a line is. Levels can be compared.
type Level int8

// The levels. Info is the zero value: what says nothing about itself.
const (
	Debug Level = iota - 1
	Info
	Warning
	Error
	Critical
)

// Any is the least level: a query for it is for every line.
const Any = Debug

var levelNames = [...]string{"debug", "info", "warning", "error", "critical"}

func (l Level) String() string {
	if i := int(l - Debug); i >= 0 && i < len(levelNames) {
		return levelNames[i]
	}
	return "unknown"
}

// ParseLevel reads the name of a level, in any of the spellings that logging
// libraries and Google Cloud Logging have for it. The error is app.ErrInvalid.
func ParseLevel(name string) (Level, error) {
	switch strings.ToLower(name) {
	case "trace", "debug", "fine", "finer", "finest":
		return Debug, nil
	case "default", "info", "information", "notice", "log":
		return Info, nil
	case "warn", "warning":
		return Warning, nil
	case "error", "err", "severe":
		return Error, nil
	case "critical", "fatal", "panic", "alert", "emergency", "emerg", "crit":
		return Critical, nil
	}
	return Info, fmt.Errorf("level %.40q: want one of %s: %w", name, strings.Join(levelNames[:], ", "), app.ErrInvalid)
}

// levelOf is what a line says of itself, as JSON with a severity or a level,
// else what its stream says: what goes to standard error is an error, as App
// Engine has it.
func levelOf(l Line) Level {
	if strings.HasPrefix(l.Text, "{") {
		var fields struct {
			Severity, Level json.RawMessage
		}
		if json.Unmarshal([]byte(l.Text), &fields) == nil {
			for _, raw := range []json.RawMessage{fields.Severity, fields.Level} {
				if level, ok := levelIn(raw); ok {
					return level
				}
			}
		}
	}
	if l.Stream == Err {
		return Error
	}
	return Info
}

// levelIn reads a level as JSON: a name, or one of the numbers that pino and
// bunyan write.
func levelIn(raw json.RawMessage) (Level, bool) {
	var name string
	if json.Unmarshal(raw, &name) == nil {
		level, err := ParseLevel(name)
		return level, err == nil
	}
	var n float64
	if raw == nil || json.Unmarshal(raw, &n) != nil {
		return Info, false
	}
	switch {
	case n < 30: // 10 trace, 20 debug
		return Debug, true
	case n < 40:
		return Info, true
	case n < 50:
		return Warning, true
	case n < 60:
		return Error, true
	}
	return Critical, true
}
