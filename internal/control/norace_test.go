//go:build !race

package control

// Race says that the race detector looks on.
const Race = false
