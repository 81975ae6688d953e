//go:build !linux

package process

import "holdfast/internal/app"

// limits hold nothing here.
type limits struct{ text string }

func findLimits(name string) *limits {
	return &limits{text: "none: this system has no cgroups"}
}

func (l *limits) holdMemory() bool                        { return false }
func (l *limits) groups(id string) []string               { return nil }
func (l *limits) create(id string, r app.Resources) error { return nil }
func (l *limits) sweep(live map[string]bool)              {}
func joinGroups(groups []string) error                    { return nil }
func killGroups(groups []string)                          {}
func removeGroups(groups []string) error                  { return nil }
func outOfMemoryKills(groups []string) int                { return 0 }
