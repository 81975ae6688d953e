package logs_test

import (
	"context"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/logs"
)

// A log that is asked for by name is read within two looks of its first line,
// though others that appear are looked for once a second only.
func TestWatchSoonSeesTheLogItWaitsFor(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var got []string
		ended := make(chan error, 1)
		go func() {
			ended <- logs.Watch(ctx, dir, logs.Query{Instance: "operation", Level: logs.Any}, func(found []logs.Entry) error {
				for _, e := range found {
					got = append(got, e.Text)
				}
				return nil
			})
		}()
		time.Sleep(150 * time.Millisecond) // of the bubble's time: after the first look
		file, err := logs.Create(filepath.Join(dir, "operation.log"), logs.Limit{})
		if err != nil {
			t.Fatal(err)
		}
		if err := file.Append(logs.Line{Time: time.Now(), Stream: logs.Out, Text: "a short build"}); err != nil {
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond)
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if len(got) != 1 || got[0] != "a short build" {
			t.Errorf("after two looks it has %q", got)
		}
	})
}
