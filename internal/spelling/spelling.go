// Package spelling finds the word that somebody probably meant, for messages
// about keys, settings and commands that do not exist. It knows words and
// nothing of what they stand for. Start at Nearest.
package spelling

import (
	"fmt"
	"iter"
)

// maxNearBytes bounds the work of comparing; no key we know is as long.
const maxNearBytes = 64

// Nearest finds the word closest to what was written, if any is close enough
// that it was probably meant: one slip in a short word, up to three in a long
// one. Among equals it is the first in the alphabet.
func Nearest(wrote string, words iter.Seq[string]) (string, bool) {
	if len(wrote) > maxNearBytes {
		return "", false
	}
	best, bound := "", min(3, 1+len(wrote)/5)
	least := bound + 1
	for word := range words {
		if d := Distance(wrote, word, bound); d < least || d == least && d <= bound && word < best {
			best, least = word, d
		}
	}
	return best, best != ""
}

// DidYouMean is the hint for a slip, or otherwise.
func DidYouMean(wrote string, words iter.Seq[string], otherwise string) string {
	if word, ok := Nearest(wrote, words); ok {
		return fmt.Sprintf("did you mean %q?", word)
	}
	return otherwise
}

// Distance counts the letters to insert, drop, change or swap with their
// neighbour to make b of a. Beyond bound it is any number above bound.
func Distance(a, b string, bound int) int {
	if len(a)-len(b) > bound || len(b)-len(a) > bound {
		return bound + 1
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := last[j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			row[j] = min(change, last[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
