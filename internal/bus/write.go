package bus

import "strconv"

// How answers are written: RESP 2, and where it differs RESP 3.

func appendLength(b []byte, what byte, n int) []byte {
	b = append(b, what)
	b = strconv.AppendInt(b, int64(n), 10)
	return append(b, '\r', '\n')
}

func appendInt(b []byte, n int) []byte   { return appendLength(b, ':', n) }
func appendArray(b []byte, n int) []byte { return appendLength(b, '*', n) }

func appendBulk[T string | []byte](b []byte, text T) []byte {
	b = appendLength(b, '$', len(text))
	b = append(b, text...)
	return append(b, '\r', '\n')
}

// appendSimple writes a text of ours; it has no line breaks.
func appendSimple(b []byte, text string) []byte {
	b = append(b, '+')
	b = append(b, text...)
	return append(b, '\r', '\n')
}

// appendError writes an error, of which parts may be the client's own words:
// a line break in them would end it too early.
func appendError(b []byte, text string) []byte {
	b = append(b, '-')
	for i := range len(text) {
		c := text[i]
		if c == '\r' || c == '\n' {
			c = ' '
		}
		b = append(b, c)
	}
	return append(b, '\r', '\n')
}

func appendNull(b []byte, proto int) []byte {
	if proto == 3 {
		return append(b, "_\r\n"...)
	}
	return append(b, "$-1\r\n"...)
}

// appendPush begins what nobody asked for; RESP 2 has no word for that.
func appendPush(b []byte, proto, n int) []byte {
	if proto == 3 {
		return appendLength(b, '>', n)
	}
	return appendArray(b, n)
}

// appendMap begins n pairs.
func appendMap(b []byte, proto, n int) []byte {
	if proto == 3 {
		return appendLength(b, '%', n)
	}
	return appendArray(b, 2*n)
}
