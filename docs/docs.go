// Package docs is the guide, as it stands in this folder, for whoever shows it
// offline. It has no code; the pages are the truth, and README.md is their
// order.
package docs

import "embed"

// Pages has every page and what they show.
//
//go:embed *.md reference/*.md console-drills.png console-instance.png console-logs.png console-overview.png console-socket.png drill.png house.svg
var Pages embed.FS
