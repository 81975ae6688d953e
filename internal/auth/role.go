package auth

import (
	"fmt"
	"slices"

	"holdfast/internal/app"
)

// Role says what a token may do: each may all that the one before it may.
type Role string

// The roles.
const (
	Viewer   Role = "viewer"   // look, also at logs and the variables of apps
	Deployer Role = "deployer" // change what runs: deploy, move traffic, restart
	Admin    Role = "admin"    // everything: applications, tokens, backups
)

// Roles lists them, the least first.
func Roles() []Role { return []Role{Viewer, Deployer, Admin} }

// ParseRole reads the name of a role. The error is app.ErrInvalid.
func ParseRole(name string) (Role, error) {
	if r := Role(name); slices.Contains(Roles(), r) {
		return r, nil
	}
	return "", fmt.Errorf("role %.40q: want viewer, deployer or admin: %w", name, app.ErrInvalid)
}

// Caller is who a token was given to.
type Caller struct {
	Name string // Owner or the name of a named token
	Role Role
}

// May says whether a caller has a role or more. The zero Caller may nothing.
func (c Caller) May(r Role) bool {
	have, need := slices.Index(Roles(), c.Role), slices.Index(Roles(), r)
	return have >= 0 && need >= 0 && have >= need
}
