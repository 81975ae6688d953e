//go:build !linux

package edge

// canPeek: net/http serves every connection.
const canPeek = false
