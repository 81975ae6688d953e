package bus

// match says whether a name matches a pattern as Redis matches them: * is any
// text, ? any byte, [a-z] and [^a-z] one of a set, \ takes the next as it is.
// What looks broken matches as it does in Redis's stringmatchlen, too.
//
// Only the last * is ever taken back: what a star before it would find later,
// the last one finds as well. So the cost is at most the product of the
// lengths, whatever the pattern.
func match(pattern string, name []byte) bool {
	if len(name) == 0 {
		return pattern == "" // not even by *, as in Redis
	}
	p, n := 0, 0
	star, mark := -1, 0 // behind the last *, and what it has taken up to
	for {
		if p < len(pattern) && pattern[p] == '*' {
			for p < len(pattern) && pattern[p] == '*' {
				p++
			}
			if p == len(pattern) {
				return true
			}
			star, mark = p, n
			continue
		}
		if n == len(name) {
			return p == len(pattern)
		}
		if p < len(pattern) {
			if next, ok := matchByte(pattern, p, name[n]); ok {
				p, n = next, n+1
				continue
			}
		}
		if star < 0 {
			return false
		}
		mark++
		p, n = star, mark
	}
}

// matchByte matches what stands at p, which is no star, with one byte, and
// says where the pattern goes on.
func matchByte(pattern string, p int, c byte) (next int, ok bool) {
	switch pattern[p] {
	case '?':
		return p + 1, true
	case '[':
		return matchSet(pattern, p+1, c)
	case '\\':
		if p+1 < len(pattern) {
			p++
		}
	}
	return p + 1, pattern[p] == c
}

// matchSet matches a set whose bracket is before p. One that does not end, ends
// with the pattern.
func matchSet(pattern string, p int, c byte) (next int, ok bool) {
	not := p < len(pattern) && pattern[p] == '^'
	if not {
		p++
	}
	found := false
	for {
		switch {
		case p >= len(pattern):
			return len(pattern), found != not
		case pattern[p] == '\\' && p+1 < len(pattern):
			p++
			found = found || pattern[p] == c
		case pattern[p] == ']':
			return p + 1, found != not
		case p+2 < len(pattern) && pattern[p+1] == '-':
			from, to := pattern[p], pattern[p+2]
			if from > to {
				from, to = to, from
			}
			p += 2
			found = found || from <= c && c <= to
		default:
			found = found || pattern[p] == c
		}
		p++
	}
}
