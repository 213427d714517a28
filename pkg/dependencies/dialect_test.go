// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"encoding/hex"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"

	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

// Content without a recorded checksum is verified for the installed release of Tekton.
// The checksum that the cluster resolver recorded says for which release Tekton has
// verified the content, also after an upgrade.
func TestCollectTaskRun_UsesTheDialectOfTekton(t *testing.T) {
	task := sign(task("build", "make"), "own")
	in := func(dialect tekton.Dialect) []byte { return must(resource.Checksum(t.Context(), task, dialect)) }
	recorded := func(checksum []byte) v1.RefSource {
		source := clusterSource(t, task)
		source.Digest = map[string]string{sha256Digest: hex.EncodeToString(checksum)}
		return source
	}
	for _, installed := range tekton.Dialects {
		for _, ran := range tekton.Dialects {
			w, tr := newTestCluster(t), resolvedRun(resolverCluster, recorded(in(ran)))
			w.Dialect = installed
			w.answered(tr, task)
			got := w.one(tr)
			if got.Content == nil || string(got.Content.Checksum) != string(in(ran)) {
				t.Errorf("installed %s, ran on %s: got %+v", installed, ran, got)
			}
		}
		w, tr := newTestCluster(t), resolvedRun("git", gitSource)
		w.Dialect = installed
		w.answered(tr, task)
		got := w.one(tr)
		if got.Content == nil || string(got.Content.Checksum) != string(in(installed)) {
			t.Errorf("from git with %s: got %+v", installed, got)
		}
		w, tr = newTestCluster(t), resolvedRun(resolverCluster, recorded(make([]byte, len(in(installed)))))
		w.Dialect = installed
		w.answered(tr, task)
		lacks(t, w.one(tr), policy.DigestMismatch, hex.EncodeToString(in(installed)))
	}
}

// If the ResolutionRequest is deleted after an upgrade, the signature that Tekton verified
// is not known any more: the object in the cluster was signed again.
func TestCollectTaskRun_DoesNotKnowSignaturesFromBeforeAnUpgrade(t *testing.T) {
	task := sign(task("build", "make"), "new")
	for _, installed := range tekton.Dialects {
		w := newTestCluster(t)
		w.Dialect = installed
		w.objects.put(task)
		got := w.one(resolvedRun(resolverCluster, clusterSource(t, task)))
		if installed != tekton.NullTimestamps { // the others have the same checksum
			has(t, got, task, "", "new")
			continue
		}
		lacks(t, got, policy.SignatureUnavailable, "another release of Tekton")
	}
}
