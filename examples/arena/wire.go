package main

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"time"
)

// fromPage is what a page says in words: hello, once, and name. It steers with
// binary frames of three bytes: x and y, each -127 to 127, and 1 to dash.
type fromPage struct {
	Type string `json:"type"` // hello or name
	Key  string `json:"key"`  // hello: what an earlier welcome gave; empty for somebody new
	Name string `json:"name"` // hello, name
}

// toPage is what the server says in words. Type tells which fields count.
type toPage struct {
	Type string `json:"type"` // welcome or roster

	*identity        // welcome: who serves
	Key       string `json:"key,omitempty"`  // welcome: with it the page is known again; a secret
	You       int    `json:"you"`            // welcome: the id of the page's own body
	Back      bool   `json:"back,omitempty"` // welcome: somebody known, with score and place
	Rules     *rules `json:"rules,omitempty"`
	Room      string `json:"room,omitempty"` // welcome, roster

	Players []seat      `json:"players,omitempty"` // roster
	Others  []otherRoom `json:"others,omitempty"`  // roster: on other instances
}

// A seat says who a body is.
type seat struct {
	ID   int    `json:"id"`
	Name string `json:"name"`
	Hue  int    `json:"hue"`
	Best int    `json:"best"`
	Bot  bool   `json:"bot,omitempty"`
}

type otherRoom struct {
	Name   string `json:"name"`
	People int    `json:"people"`
}

// rules are what the page needs to draw the field, and to guess where its own
// player goes until it hears.
type rules struct {
	Ticks   int         `json:"ticks"` // per second
	Width   float64     `json:"width"`
	Height  float64     `json:"height"`
	Radius  float64     `json:"radius"`
	Accel   float64     `json:"accel"`
	Drag    float64     `json:"drag"`
	Dash    float64     `json:"dash"`
	DashS   float64     `json:"dashSeconds"`
	RestS   float64     `json:"restSeconds"`
	Bounce  float64     `json:"bounce"`
	Pillars [][]float64 `json:"pillars"` // x, y, radius
}

func (w *world) rules() *rules {
	r := &rules{ticksPerSecond, width, height, radius, accel, drag, dashSpeed,
		float64(dashTicks) / ticksPerSecond, float64(restTicks) / ticksPerSecond, bounce, nil}
	for _, p := range w.pillars {
		r.Pillars = append(r.Pillars, []float64{math.Round(p.pos.x), math.Round(p.pos.y), math.Round(p.r)})
	}
	return r
}

// The flags of a body in a frame.
const (
	flagDashing = 1 << iota
	flagAsleep
	flagSafe
	flagRested
)

// frame is the whole field at one tick, some 700 bytes: so a page that misses
// frames has lost nothing. Numbers are little-endian.
//
//	tick u32, bodies u8, each: id u8, x u16, y u16 (1/32 units), vx i16, vy i16 (1/8), flags u8, score u16
//	sparks u8, each: x u16 (units; bit 15: gold), y u16
func (w *world) frame() []byte {
	b := make([]byte, 0, 6+12*len(w.bodies)+4*len(w.sparks))
	b = binary.LittleEndian.AppendUint32(b, w.tick)
	b = append(b, byte(len(w.bodies)))
	for _, o := range w.bodies {
		b = append(b, o.id)
		b = binary.LittleEndian.AppendUint16(b, uint16(o.pos.x*32))
		b = binary.LittleEndian.AppendUint16(b, uint16(o.pos.y*32))
		b = binary.LittleEndian.AppendUint16(b, uint16(int16(o.v.x*8)))
		b = binary.LittleEndian.AppendUint16(b, uint16(int16(o.v.y*8)))
		var flags byte
		if o.dashing > 0 {
			flags |= flagDashing
		}
		if o.asleep {
			flags |= flagAsleep
		}
		if o.safe > 0 {
			flags |= flagSafe
		}
		if o.resting == 0 {
			flags |= flagRested
		}
		b = append(b, flags)
		b = binary.LittleEndian.AppendUint16(b, uint16(o.score))
	}
	b = append(b, byte(len(w.sparks)))
	for _, s := range w.sparks {
		x := uint16(s.pos.x)
		if s.gold {
			x |= 1 << 15
		}
		b = binary.LittleEndian.AppendUint16(b, x)
		b = binary.LittleEndian.AppendUint16(b, uint16(s.pos.y))
	}
	return b
}

// A record is one player as instances tell each other.
type record struct {
	Key   string  `json:"key"`
	Name  string  `json:"name"`
	Hue   int     `json:"hue"`
	X     float64 `json:"x"`
	Y     float64 `json:"y"`
	Score int     `json:"score"`
	Best  int     `json:"best"`
}

// valid says whether a record can be put on the field. Peers are ours, but an
// older or a newer version may be among them.
func (r *record) valid() bool {
	r.Name = tidyName(r.Name)
	return isKey(r.Key) && r.Hue >= 0 && r.Hue < 360 && r.Score >= 0 && r.Score <= scoreMax && r.Best >= 0 && r.Best <= scoreMax &&
		r.X >= 0 && r.X <= width && r.Y >= 0 && r.Y <= height
}

// roomState is a room as instances tell each other: now and then for those who
// lose theirs, and once when it is handed over.
type roomState struct {
	Name    string      `json:"name"`
	Seed    uint64      `json:"seed,string"`
	People  int         `json:"people"` // awake
	Since   time.Time   `json:"since"`  // of the instance
	Players []record    `json:"players,omitempty"`
	Sparks  [][]float64 `json:"sparks,omitempty"` // x, y, and 1 if gold; when it is handed over
}

func isKey(s string) bool {
	if len(s) != 2*keyBytes {
		return false
	}
	for _, c := range s {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// words is v as it goes over the wire.
func words(v toPage) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings and finite numbers always marshal
	}
	return b
}
