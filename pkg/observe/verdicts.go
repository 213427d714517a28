// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"time"

	"go.opentelemetry.io/otel/attribute"
)

// TektonVerdict is what Tekton's own verification said of the resources behind a run.
type TektonVerdict string

// The verdicts of Tekton.
const (
	TektonPassed  TektonVerdict = "passed"
	TektonWarned  TektonVerdict = "warned"  // a resource failed a policy in mode warn
	TektonRefused TektonVerdict = "refused" // a resource failed a policy in mode enforce
)

// TektonJudged means that a run ended about which Tekton has a verdict.
type TektonJudged struct {
	Kind    string // of the run
	Verdict TektonVerdict
}

func (f TektonJudged) report() report {
	return report{count: counted{tektonVerdicts, append(ofKind(f.Kind), attribute.String("verdict", string(f.Verdict)))}}
}

// Judged means that the policies of a namespace were asked about one signature.
type Judged struct {
	Result string // as in Verified
	Cached bool   // the verdict is one from before
	Took   time.Duration
}

func (f Judged) report() report {
	return report{count: CacheAsked{Verdicts, f.Cached}.report().count, took: []measured{{verificationDuration, f.Took, []attribute.KeyValue{
		attribute.String("result", f.Result), cacheLabel.String(hitOrMiss(f.Cached)),
	}}}}
}

func hitOrMiss(hit bool) string {
	if hit {
		return "hit"
	}
	return "miss"
}
