//go:build race

package control

// Race says that the race detector looks on, which makes simulations ten times
// as slow.
const Race = true
