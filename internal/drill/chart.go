package drill

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"slices"
	"strings"
)

// The chart of a drill, as SVG: what the instances were, what they carried, and
// which clients were away, over one time line.

const (
	// colours is how many instances are told apart by colour; then it begins anew.
	colours = 8

	chartLeft  = 84.0 // room for names
	chartRight = 1064.0
	chartTop   = 30.0 // room for the fault's name

	laneHeight = 18.0 // of an instance
	areaHeight = 150.0
	awayHeight = 120.0 // of all clients together, at most
	blockGap   = 34.0  // between two parts, with a title in it
)

// drawing is an SVG that grows downwards.
type drawing struct {
	b    strings.Builder
	res  Result
	y    float64
	ids  []string
	most int
}

func (d *drawing) put(format string, args ...any) { fmt.Fprintf(&d.b, format+"\n", args...) }

func (d *drawing) x(at float64) float64 {
	return chartLeft + (chartRight-chartLeft)*min(1, max(0, at/d.res.Seconds))
}

// text puts words; what is in them is escaped.
func (d *drawing) text(x, y float64, class, anchor, words string) {
	d.put(`<text x="%.1f" y="%.1f" class="%s" text-anchor="%s">%s</text>`, x, y, class, anchor, html.EscapeString(words))
}

// chart draws a drill.
func (r Result) chart() template.HTML {
	if r.Seconds <= 0 || len(r.Samples) == 0 {
		return ""
	}
	d := &drawing{res: r, y: chartTop}
	d.ids, d.most = r.instances()
	if len(d.ids) > 0 {
		d.lanes()
	}
	if d.most > 0 {
		d.area("sockets", "Sockets, by instance", func(s Sample) (map[string]float64, bool) {
			n := map[string]float64{}
			for id, c := range s.Sockets {
				n[id] = float64(c)
			}
			return n, s.Sockets != nil
		})
	}
	if rates := r.rates(); rates != nil {
		i := -1
		d.area("rates", "Requests per second, by instance", func(Sample) (map[string]float64, bool) { i++; return rates[i], true })
	}
	if len(r.Outages) > 0 {
		d.away()
	}
	return d.finish()
}

// finish puts the time line below and the fault behind, and returns the whole.
func (d *drawing) finish() template.HTML {
	bottom := d.y
	axis := &drawing{res: d.res}
	step := tick(d.res.Seconds)
	for at := 0.0; at <= d.res.Seconds+1e-9; at += step {
		axis.put(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" class="grid"/>`, d.x(at), chartTop-6, d.x(at), bottom)
		axis.text(d.x(at), bottom+18, "axis", "middle", trim(at)+" s")
	}
	from, to := d.x(d.res.Broke), d.x(d.res.Mended)
	axis.put(`<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" class="fault"/>`, from, chartTop-6, max(2, to-from), bottom-chartTop+6)
	d.put(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" class="edge"/>`, from, chartTop-20, from, bottom)
	d.text(from+6, chartTop-12, "faultname", "start", d.res.Drill)
	return template.HTML(fmt.Sprintf(`<svg viewBox="0 0 1080 %.0f" role="img" aria-label="Time line of the drill">`, bottom+26) + axis.b.String() + d.b.String() + "</svg>")
}

// tick is a round distance of marks on the time line, some six to twelve of them.
func tick(whole float64) float64 {
	for _, step := range []float64{0.5, 1, 2, 5, 10, 15, 30, 60, 120} {
		if whole/step <= 12 {
			return step
		}
	}
	return whole / 8
}

func trim(n float64) string {
	return strings.TrimSuffix(fmt.Sprintf("%.1f", n), ".0")
}

// brief is the end of an instance's name, by which those of one version are told
// apart.
func brief(id string) string { return id[strings.LastIndexByte(id, '-')+1:] }

// title begins a part of the chart.
func (d *drawing) title(words string) {
	d.text(chartLeft, d.y+blockGap-10, "part", "start", words)
	d.y += blockGap
}

// lanes shows the life of each instance.
func (d *drawing) lanes() {
	for n, id := range d.ids {
		y := d.y + laneHeight*float64(n)
		d.put(`<circle cx="%.1f" cy="%.1f" r="4" class="c%d"/>`, 6.0, y+laneHeight/2, n%colours)
		d.put(`<text x="18" y="%.1f" class="lane">%s<title>%s</title></text>`, y+laneHeight/2+4, html.EscapeString(brief(id)), html.EscapeString(id))
		state, since := "", 0.0
		flush := func(until float64) {
			if state != "" && state != "stopped" && until > since {
				d.put(`<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="3" class="c%d %s"><title>%s: %s, %s to %s</title></rect>`,
					d.x(since), y+4, max(1.5, d.x(until)-d.x(since)), laneHeight-8, n%colours, html.EscapeString(state),
					html.EscapeString(id), html.EscapeString(state), long(since), long(until))
			}
		}
		for _, s := range d.res.Samples {
			if s.Sockets == nil {
				continue // nobody could be asked: as before
			}
			if now := s.States[id]; now != state {
				flush(s.At)
				state, since = now, s.At
			}
		}
		flush(d.res.Seconds)
	}
	d.y += laneHeight * float64(len(d.ids))
}

// area stacks a number of each instance.
func (d *drawing) area(name, title string, of func(Sample) (map[string]float64, bool)) {
	d.title(title)
	type column struct {
		at   float64
		n    map[string]float64
		open bool // it begins after a gap
	}
	var columns []column
	top, open := 0.0, true
	for _, s := range d.res.Samples {
		n, ok := of(s)
		if !ok {
			open = true
			continue
		}
		sum := 0.0
		for _, id := range d.ids {
			sum += n[id]
		}
		top = max(top, sum)
		columns = append(columns, column{s.At, n, open})
		open = false
	}
	if top == 0 {
		top = 1
	}
	scale := nice(top)
	y := func(n float64) float64 { return d.y + areaHeight*(1-n/scale) }
	for _, part := range []float64{0, 0.5, 1} {
		d.put(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" class="level"/>`, chartLeft, y(scale*part), chartRight, y(scale*part))
		d.text(chartLeft-8, y(scale*part)+4, "axis", "end", trim(scale*part))
	}
	for from := 0; from < len(columns); {
		to := from + 1
		for to < len(columns) && !columns[to].open {
			to++
		}
		run := columns[from:to]
		below := make([]float64, len(run))
		for n, id := range d.ids {
			var up, down []string
			any := false
			for i, c := range run {
				low, high := below[i], below[i]+c.n[id]
				any = any || c.n[id] > 0
				below[i] = high
				up = append(up, fmt.Sprintf("%.1f,%.1f", d.x(c.at), y(high)))
				down = append(down, fmt.Sprintf("%.1f,%.1f", d.x(c.at), y(low)))
			}
			if any {
				slices.Reverse(down)
				d.put(`<polygon points="%s %s" class="c%d area"><title>%s</title></polygon>`, strings.Join(up, " "), strings.Join(down, " "), n%colours, html.EscapeString(id))
			}
		}
		from = to
	}
	d.y += areaHeight
}

// nice is a round number that is not below n.
func nice(n float64) float64 {
	for unit := math.Pow(10, math.Floor(math.Log10(n))); ; unit *= 10 {
		for _, m := range []float64{1, 1.2, 1.6, 2, 2.5, 3, 4, 5, 6, 8, 10} {
			if m*unit >= n && (m*unit >= 2 || n < 1) {
				return m * unit
			}
		}
	}
}

// rates are the requests per second of each look, over its neighbours; nil where
// none were seen.
func (r Result) rates() []map[string]float64 {
	over := max(0.5, r.Seconds/20) // on each side: clients ask in step, and records come in bursts
	any := false
	var all []map[string]float64
	for i, at := range r.Samples {
		from, to := i, i
		for from > 0 && at.At-r.Samples[from-1].At <= over {
			from--
		}
		for to < len(r.Samples)-1 && r.Samples[to+1].At-at.At <= over {
			to++
		}
		long := r.Samples[to].At - r.Samples[from].At
		if from > 0 {
			long += r.Samples[from].At - r.Samples[from-1].At
		}
		sum := map[string]float64{}
		for _, s := range r.Samples[from : to+1] {
			for id, n := range s.Served {
				any = true
				sum[id] += float64(n)
			}
		}
		for id := range sum {
			sum[id] /= max(long, 0.05)
		}
		all = append(all, sum)
	}
	if !any {
		return nil
	}
	return all
}

// away has a line for each client, and on it when it was away.
func (d *drawing) away() {
	d.title("Clients that were away, one line each")
	height := min(9, awayHeight/float64(max(1, d.res.Clients)))
	whole := height * float64(d.res.Clients)
	d.put(`<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" class="ground"/>`, chartLeft, d.y, chartRight-chartLeft, whole)
	d.text(chartLeft-8, d.y+9, "axis", "end", "client 1")
	if whole > 26 {
		d.text(chartLeft-8, d.y+whole-1, "axis", "end", fmt.Sprint(d.res.Clients))
	}
	for _, o := range d.res.Outages {
		class, words := "back", "back after "+long(o.Seconds)
		if !o.Back {
			class, words = "never", "never came back"
		}
		d.put(`<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" class="%s"><title>client %d, %s: %s</title></rect>`,
			d.x(o.At), d.y+height*float64(o.Client-1), max(2, d.x(o.At+o.Seconds)-d.x(o.At)), max(1, height-1), class,
			o.Client, html.EscapeString(o.Probe), words)
	}
	d.y += whole
}

// strip draws how long each outage was, on a line.
func (r Result) strip() template.HTML {
	const left, right, height = 6.0, 394.0, 46.0
	top := 0.0
	for _, o := range r.Outages {
		if o.Back {
			top = max(top, o.Seconds)
		}
	}
	if top == 0 {
		return ""
	}
	scale := nice(top)
	x := func(s float64) float64 { return left + (right-left)*s/scale }
	d := &drawing{}
	d.put(`<svg viewBox="0 0 400 %.0f" role="img" aria-label="How long each client needed">`, height)
	d.put(`<line x1="%.1f" y1="24" x2="%.1f" y2="24" class="level"/>`, left, right)
	for i, o := range r.Outages {
		if o.Back {
			d.put(`<circle cx="%.1f" cy="%.1f" r="4" class="dot"/>`, x(o.Seconds), 24+float64(i%5-2)*4)
		}
	}
	d.text(left, height-2, "axis", "start", "0 s")
	d.text(right, height-2, "axis", "end", long(scale))
	d.put("</svg>")
	return template.HTML(d.b.String())
}
