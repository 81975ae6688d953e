// Holdfast runs App Engine flexible apps on machines people own.
package main

import (
	"os"

	"holdfast/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:])) }
