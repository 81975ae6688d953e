package config

import (
	"fmt"
	"strings"
	"text/tabwriter"
)

// Help is the table for a terminal: one name, three spellings, the default.
func Help() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  FLAG\tVARIABLE\tKEY IN THE FILE\tDEFAULT")
	for _, s := range Settings() {
		flag := s.Flag()
		if s.Takes != "" {
			flag += "=" + s.Takes
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", flag, s.Variable(), s.Key(), s.Default)
	}
	w.Flush()
	return strings.TrimRight(b.String(), "\n")
}

// Page is docs/configuration.md.
func Page() string {
	var b strings.Builder
	b.WriteString(`<!-- Written by internal/config from its table; change it there, then: go test ./internal/config -update -->

# Settings of ` + "`holdfast serve`" + `

Every setting has one name and three spellings: a flag, a variable and a key in a YAML file. A flag wins over the
variable, the variable over the file, the file over the default. An empty variable says nothing.

The file is the one that ` + "`--config`" + ` or ` + "`HOLDFAST_CONFIG`" + ` names, else ` + "`holdfast.yaml`" + ` in the folder where the server is
started, if there is one. ` + "`holdfast serve --check`" + ` prints every setting and who said it, refuses what is wrong, and starts
nothing.

` + "```yaml" + `
# holdfast.yaml
data: /var/lib/holdfast
listen: :80
domain: [apps.example.org, localhost]
maintenance: Sat,Sun 02:00-05:00
` + "```" + `

| flag | variable | key | default | what |
|---|---|---|---|---|
`)
	for _, s := range Settings() {
		flag := s.Flag()
		if s.Takes != "" {
			flag += "=" + s.Takes
		}
		fmt.Fprintf(&b, "| `%s` | `%s` | `%s` | %s | %s |\n", flag, s.Variable(), s.Key(), code(s.Default), s.Meaning)
	}
	b.WriteString(`
Where a setting takes several values, give the flag several times, put commas between them, or write a list in the file.
Sizes count in thousands (` + "`5GB`" + ` is 5,000,000,000 bytes); ` + "`GiB`" + ` and the like count in 1,024s. Durations are such as ` + "`45s`" + ` or ` + "`2m`" + `.
`)
	return b.String()
}

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}
