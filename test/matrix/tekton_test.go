// SPDX-License-Identifier: Apache-2.0

//go:build matrix

package matrix

import (
	"testing"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// The oldest release with the older checksums runs a Task that the controller signed,
// and refuses it after a change.
func TestOlderTekton_RunsOnlySignedTasks(t *testing.T) {
	e := start(t, harness.Releases{Tekton: "v1.9.2"})
	ns := e.namespace()
	e.createTask(ns, "build")
	e.waitSigned(ns, "build", "")
	e.expectAccepted(e.run(ns, "build"))
	e.check(e.controller.Stop(t.Context()))
	e.tamper(ns, "build")
	e.expectRefused(e.run(ns, "build"))
}
