package build

import (
	"archive/zip"
	"bytes"
	"testing"
)

// jarOf is a jar with the given manifest.
func jarOf(t *testing.T, manifest string) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.Create(javaManifestName)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(manifest)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
