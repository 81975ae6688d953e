package appyaml

import "testing"

func TestEveryKeyIsListedOnce(t *testing.T) {
	read := (&reader{}).settings()
	listed := map[string]bool{}
	for _, k := range Keys() {
		if _, ok := read[k.Name]; !ok || listed[k.Name] || k.Meaning == "" {
			t.Errorf("%s is listed, and not read, or listed twice, or means nothing", k.Name)
		}
		listed[k.Name] = true
	}
	for name := range read {
		if !listed[name] {
			t.Errorf("%s is read, and not listed", name)
		}
	}
}
