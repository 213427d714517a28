// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/audit"
	"github.com/trusted-resources/chains-extension/pkg/cli"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// auditKills is the number of times that TestAudit_ExplainsEachSignatureAfterKills kills the
// controller.
var auditKills = flag.Int("audit-kills", 20, "how often TestAudit_ExplainsEachSignatureAfterKills kills the controller")

// Each signature of a load has a record with its checksum, key and requester, and the
// command finds each change of the files.
func TestAudit_HasEachSignatureOfALoad(t *testing.T) {
	const many = 900 // the file is rotated
	e := startAudited(t)
	e.startWebhook("record")
	e.configure(toAuditFile(e.path, map[string]string{"trustedresources.requester": "record"}))
	e.waitLogged(e.controller, "The requesters in resources can be relied upon") // names count from then on
	ns := e.namespace()
	e.createMany(ns, many)
	e.waitAllSigned(ns, many)
	e.check(e.controller.Stop(t.Context()))
	records := map[types.UID]*audit.Record{}
	for _, r := range e.records() {
		if r.Type == audit.ResourceSigned && r.Object.Namespace == ns {
			records[types.UID(r.Object.UID)] = r
		}
	}
	tasks, err := cluster.Tekton.TektonV1().Tasks(ns).List(t.Context(), metav1.ListOptions{})
	e.check(err)
	for i := range tasks.Items {
		e.expectRecord(&tasks.Items[i], records[tasks.Items[i].UID])
	}
	report, code := e.verify(t, e.files(), "--stopped", "--kube-audit", cluster.AuditLog())
	if code != cli.OK || len(report.Files) < 2 || len(report.Intents) > 0 {
		t.Fatalf("exit code %d, %d files, findings %+v, intents %+v; want 2 files and no findings", code, len(report.Files), report.Findings, report.Intents)
	}
	e.expectEachPatchExplained(ns, &report)
	e.expectTamperingFound(t)
}

// expectRecord fails the test if a Task has another record than its signature.
func (e *auditEnv) expectRecord(task *v1.Task, r *audit.Record) {
	e.t.Helper()
	if r == nil {
		e.t.Errorf("%s has a signature and no record", task.Name)
		return
	}
	summary, err := resource.Summarize(e.t.Context(), task)
	e.check(err)
	checksum := "sha256:" + hex.EncodeToString(summary.Checksums.In(tekton.Newest))
	user := task.Annotations[v1alpha1.RequestedByAnnotation]
	if r.Object.Checksum != checksum || r.KeyID != e.keyID() || r.Object.ResourceVersion != task.ResourceVersion ||
		user == "" || r.RequestedBy == nil || r.RequestedBy.User != user ||
		r.Actor == nil || r.Actor.User != "system:serviceaccount:"+harness.SystemNamespace+":"+harness.ServiceAccount {
		e.t.Errorf("%s (requested by %q, checksum %s) has the record %+v", task.Name, user, checksum, r)
	}
}

// The controller is killed at random moments while Tasks are created and changed. Each
// signature has a record, or an intent that the audit log of the API server explains.
func TestAudit_ExplainsEachSignatureAfterKills(t *testing.T) {
	e := startAudited(t)
	ns := e.namespace()
	load, stop := context.WithCancel(t.Context())
	created := make(chan int, 1)
	go func() { created <- changeTasks(load, ns) }()
	for range *auditKills {
		e.waitGrown(e.size(), 1000+rand.Int64N(100_000)) //nolint:gosec // needs no secrecy
		e.check(e.controller.Kill(t.Context()))
		e.check(e.controller.Start(t.Context()))
	}
	stop()
	count := <-created
	e.eventually(afterFailover, func() error { return e.checkAllSigned(ns, count) }) // a changed Task has its old signature for a moment
	e.check(e.controller.Stop(t.Context()))
	report, code := e.verify(t, e.files(), "--stopped", "--kube-audit", cluster.AuditLog())
	if code != cli.OK {
		t.Errorf("exit code %d, findings %+v", code, report.Findings)
	}
	if len(report.Streams) != *auditKills+1 {
		t.Errorf("%d streams, want one for each start", len(report.Streams))
	}
	resolutions := map[audit.Resolution]int{}
	for _, i := range report.Intents {
		resolutions[i.Resolution]++
	}
	t.Logf("%d records, %d signatures, intents without an outcome: %v", report.Records, len(e.signaturePatches(ns)), resolutions)
	e.expectEachPatchExplained(ns, &report)
}

// changeTasks creates and changes Tasks until the context ends, and returns how many there
// are.
func changeTasks(ctx context.Context, namespace string) (count int) {
	tasks := cluster.Tekton.TektonV1().Tasks(namespace)
	for ctx.Err() == nil {
		name := fmt.Sprintf("task-%d", count)
		if _, err := tasks.Create(context.WithoutCancel(ctx), newTask(namespace, name), metav1.CreateOptions{}); err == nil {
			count++
		}
		changed := fmt.Sprintf(`{"spec":{"description":"change %d"}}`, rand.Int())                    //nolint:gosec // needs no secrecy
		chosen := fmt.Sprintf("task-%d", rand.IntN(count+1))                                          //nolint:gosec // needs no secrecy
		_, _ = tasks.Patch(ctx, chosen, types.MergePatchType, []byte(changed), metav1.PatchOptions{}) // load only
	}
	return count
}

// Without a disk, the controller signs on or signs nothing, as it was told. It attests runs
// in both cases.
func TestAudit_SignsOnOrBlocksWithoutADisk(t *testing.T) {
	for name, failure := range map[string]string{"continue": "continue", "block": "block"} {
		t.Run(name, func(t *testing.T) {
			e := startController(t)
			path := filepath.Join(t.TempDir(), "audit.log")
			e.check(os.Symlink("/dev/full", path)) // each write fails with ENOSPC
			e.configure(toAuditFile(path, with(withoutRegistry, map[string]string{
				"trustedresources.audit.on-failure": failure, "trustedresources.audit.sinks": "stdout,file",
			})))
			e.waitLogged(e.controller, "Audit log not written", "no space left on device")
			ns := e.namespace()
			task := e.createTask(newTask(ns, "task"))
			if failure == "continue" {
				e.waitSigned(ns, "task")
			} else {
				e.waitEvent(task, v1alpha1.ReasonAuditFailed, "on-failure is block")
				e.waitMetric(`trustedresources_signing_failures_total{kind="Task",reason="AuditLogFailed"} 1`)
				if signature(e.getTask(ns, "task")) != "" {
					t.Error("the Task is signed")
				}
			}
			run, err := cluster.RunTask(t.Context(), ns, "task", harness.BuildsImage(), soon)
			e.check(err)
			e.waitAttested(ns, run.Name)
			e.check(os.Remove(path))
			e.waitSigned(ns, "task")
			e.waitLogged(e.controller, `"type":"audit.gap"`, `"sink":"file"`)
		})
	}
}

// A webhook that never answers does not delay signatures.
func TestAudit_DoesNotWaitForAWebhook(t *testing.T) {
	const many = 200
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for { // accepts, and never answers
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(io.Discard, conn) }()
		}
	}()
	e := startAudited(t)
	alone := e.p99(many)
	e.configure(toAuditFile(e.path, map[string]string{
		"trustedresources.audit.sinks": "file,webhook", "trustedresources.audit.webhook-url": "http://" + listener.Addr().String(),
	}))
	e.eventually(soon, func() error {
		started := 0
		for _, r := range e.records() {
			if r.Type == audit.Started {
				started++
			}
		}
		if started < 2 {
			return fmt.Errorf("the sinks were not changed yet")
		}
		return nil
	})
	hung := e.p99(many)
	t.Logf("99th percentile of an attempt: %v alone, %v with a webhook that never answers", alone, hung)
	if hung > 3*alone+harness.TimeLimit(100*time.Millisecond) {
		t.Errorf("the 99th percentile of an attempt rose from %v to %v", alone, hung)
	}
	e.eventually(time.Minute, func() error { // the first request has to end
		metrics, err := httpGet(t.Context(), e.controller.MetricsURL)
		if err != nil {
			return err
		}
		if counted := linesWith(metrics, `outcome="failed",`); counted == "" {
			return fmt.Errorf("no failure is counted")
		}
		return nil
	})
}

// p99 signs Tasks, and returns the 99th percentile of the time for an attempt.
func (e *auditEnv) p99(many int) time.Duration {
	e.t.Helper()
	ns := e.namespace()
	e.createMany(ns, many)
	e.waitAllSigned(ns, many)
	var took []float64
	e.eventually(soon, func() error {
		took = nil
		for _, r := range e.records() {
			if r.Type == audit.ResourceSigned && r.Object.Namespace == ns {
				took = append(took, r.DurationMs)
			}
		}
		if len(took) < many {
			return fmt.Errorf("%d records of %d signatures", len(took), many)
		}
		return nil
	})
	slices.Sort(took)
	return time.Duration(took[len(took)*99/100] * float64(time.Millisecond))
}
