package probe_test

import (
	"testing"

	"holdfast/internal/app"
	"holdfast/internal/probe"
)

func TestJudge(t *testing.T) {
	tests := []struct {
		name                string
		failures, successes int
		answers             string // + passed, - failed
		want                string // the verdict after each: ? unknown, + pass, - fail
	}{
		{"nothing is said before a threshold is reached", 2, 2, "+-+-+", "?????"},
		{"successes in a row pass", 2, 2, "++", "?+"},
		{"failures in a row fail", 3, 1, "---", "??-"},
		{"fewer failures than the threshold change nothing", 3, 1, "+--+--+---", "+++++++++-"},
		{"a failure starts the count of successes anew", 1, 3, "-++-+++", "------+"},
		{"a success starts the count of failures anew", 2, 1, "+-+-+--", "++++++-"},
		{"a threshold below one counts as one", 0, 0, "+-+", "+-+"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			check := app.Check{Failures: tt.failures, Successes: tt.successes}
			var tally probe.Tally
			got := ""
			for _, answer := range tt.answers {
				tally = tally.Judge(check, answer == '+')
				got += map[probe.Verdict]string{probe.Unknown: "?", probe.Pass: "+", probe.Fail: "-"}[tally.Verdict]
			}
			if got != tt.want {
				t.Errorf("answers %s: verdicts %s, want %s", tt.answers, got, tt.want)
			}
		})
	}
}
