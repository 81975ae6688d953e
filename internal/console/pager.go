package console

import (
	"net/url"
	"strconv"
)

// pager is which part of a list a page shows.
type pager struct {
	Page, Pages int // from 1
	From, To    int // of the list
	Total       int
	Back, Next  string // links; "": there is none
}

func pagerOf(v *visit, total, each int) pager {
	p := pager{Total: total, Pages: max(1, (total+each-1)/each)}
	p.Page, _ = strconv.Atoi(v.r.URL.Query().Get("page")) // anything else is the first
	p.Page = min(max(1, p.Page), p.Pages)
	p.From = (p.Page - 1) * each
	p.To = min(total, p.From+each)
	if p.Page > 1 {
		p.Back = v.with("page", strconv.Itoa(p.Page-1))
	}
	if p.Page < p.Pages {
		p.Next = v.with("page", strconv.Itoa(p.Page+1))
	}
	return p
}

// with is the page itself with another parameter; "" leaves it out.
func (v *visit) with(pairs ...string) string {
	q := v.r.URL.Query()
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			q.Del(pairs[i])
		} else {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	u := url.URL{Path: v.r.URL.Path, RawQuery: q.Encode()}
	return u.String()
}
