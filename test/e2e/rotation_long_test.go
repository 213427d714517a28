// SPDX-License-Identifier: Apache-2.0

//go:build kms && rotation

package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// longLoad has 2,000 resources, and PipelineRuns that go on for at least five minutes. It
// keeps two cores busy.
var longLoad = loadSize{namespaces: 40, tasksEach: 49, perSecond: 2, pipelineRuns: 20, serial: 10, lasting: 30 * time.Second}

// Three rotations under a load: between keys in Secrets, into Vault, and to the next version
// in Vault. None of 3,000 runs is refused.
func TestRotation_NoRunOfALongLoadIsRefused(t *testing.T) {
	e := newEnv(t)
	key := fmt.Sprintf("long-%d", time.Now().UnixNano())
	ref, err := vault.CreateKey(t.Context(), key, harness.VaultKeyType)
	e.check(err)
	first, second, third := e.newRingKey("first"), e.newRingKey("second"), e.vaultKey(ref, "1")
	l := e.startRotationLoad(longLoad, first)
	e.configure(with(with(signAll, withProvenance), vaultAccess(e.vaultToken())))
	l.rotate(first, second)
	l.rotate(second, third)
	e.check(vault.RotateKey(t.Context(), key))
	l.rotate(third, e.vaultKey(ref, "2"))
	runs, err := l.stop()
	t.Logf("%d runs", runs)
	e.check(err)
	if runs < 3000 {
		t.Errorf("%d runs are too few, want 3,000", runs)
	}
}
