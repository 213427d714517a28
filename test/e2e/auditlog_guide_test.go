// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/trusted-resources/chains-extension/pkg/audit"
	"github.com/trusted-resources/chains-extension/test/fixtures"
)

// Each block of docs/audit.md is executed, in the order of the page. The controller is no Pod
// here, but a process whose output is in a file.
func TestAuditGuide_WorksBlockByBlock(t *testing.T) {
	e := &auditEnv{newEnv(t), filepath.Join(t.TempDir(), "audit.log")}
	dir := filepath.Dir(e.path)
	e.check(os.Symlink(filepath.Join(e.secretsDir, fixtures.CosignPub), filepath.Join(dir, "cosign.pub")))
	e.check(os.Symlink(cluster.AuditLog(), filepath.Join(dir, "kube-apiserver-audit.log")))
	e.configure(with(signAll, map[string]string{"trustedresources.audit.file": e.path}))
	e.controller = e.addReplicaWithEnv(inStatefulSet(0), "audited")
	e.installCommand()
	ns := e.namespace()
	e.createTask(newTask(ns, "before"))
	e.waitSigned(ns, "before")
	copyLog := func() bool {
		log, err := e.controller.Log()
		e.check(err)
		e.check(os.WriteFile(filepath.Join(dir, "controller.log"), []byte(log), 0o600))
		return true
	}
	nothing := func(more ...string) func(string) {
		return func(output string) { e.expectText(output, append(more, "nothing was found")...) }
	}
	e.executePageIn(dir, "audit.md", []pageStep{
		{section: "Turn on the file", before: first(func() {
			if files := e.files(); len(files) > 0 {
				t.Errorf("there are the files %v before the file is turned on", files)
			}
		}), after: func(string) {
			e.createTask(newTask(ns, "recorded"))
			e.waitSigned(ns, "recorded")
			e.eventually(soon, func() error {
				if !slices.ContainsFunc(e.records(), func(r *audit.Record) bool { return r.Type == audit.ResourceSigned && r.Object.Name == "recorded" }) {
					return errors.New("the file has no record of the signature")
				}
				return nil
			})
		}},
		{section: "Verify", after: nothing("open-end")},
		{section: "Verify", before: copyLog},
		{section: "Verify", after: nothing()},
		{section: "Verify", before: first(func() { e.check(e.controller.Stop(t.Context())) }), after: nothing("shutdown")},
		{section: "Verify", after: nothing("shutdown")},
		{section: "Verify", before: first(func() { copyLog() }), after: nothing("shutdown")},
	})
}
