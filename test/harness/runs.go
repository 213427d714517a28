// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	sigdsse "github.com/sigstore/sigstore/pkg/signature/dsse"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// Trust creates an enforce policy in a namespace: Tekton then refuses all resources with
// a resolver that public does not verify.
func (c *Cluster) Trust(ctx context.Context, namespace string, public crypto.PublicKey) error {
	return c.TrustFrom(ctx, namespace, ".*", public)
}

// TrustFrom is Trust for the sources that match a pattern. Tekton matches the pattern
// against the whole RefSource.URI without the prefix "git+".
func (c *Cluster) TrustFrom(ctx context.Context, namespace, pattern string, public crypto.PublicKey) error {
	pem, err := cryptoutils.MarshalPublicKeyToPEM(public)
	if err != nil {
		return err
	}
	_, err = c.Tekton.TektonV1alpha1().VerificationPolicies(namespace).Create(ctx, &v1alpha1.VerificationPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "trust"},
		Spec: v1alpha1.VerificationPolicySpec{
			Resources:   []v1alpha1.ResourcePattern{{Pattern: pattern}},
			Authorities: []v1alpha1.Authority{{Name: "controller", Key: &v1alpha1.KeyRef{Data: string(pem)}}},
			Mode:        v1alpha1.ModeEnforce,
		},
	}, metav1.CreateOptions{})
	return err
}

// BuiltDigest is the SHA-256 digest of the image in BuildsImage.
const BuiltDigest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// BuildsImage returns annotations for a TaskRun. They make the local cluster give the
// TaskRun the results of a Task that has built and pushed an image.
func BuildsImage() map[string]string { return Builds("registry.example/app", "sha256:"+BuiltDigest) }

// Builds is BuildsImage for the image with a URL and a digest.
func Builds(url, digest string) map[string]string {
	return map[string]string{"kubelet.localcluster/message": fmt.Sprintf(
		`[{"key":"IMAGE_URL","value":%q,"type":1},{"key":"IMAGE_DIGEST","value":%q,"type":1}]`, url, digest)}
}

// RunTask runs a Task through Tekton's cluster resolver, so that Tekton verifies the
// Task, and waits until the run has ended.
func (c *Cluster) RunTask(ctx context.Context, namespace, task string, annotations map[string]string, timeout time.Duration) (*v1.TaskRun, error) {
	ref := ClusterRef(resource.Task, namespace, task)
	return c.Run(ctx, &v1.TaskRun{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: task + "-", Annotations: annotations},
		Spec:       v1.TaskRunSpec{TaskRef: &v1.TaskRef{ResolverRef: ref}},
	}, timeout)
}

// ClusterRef returns a reference to a resource in the cluster, for Tekton's cluster
// resolver.
func ClusterRef(kind resource.Kind, namespace, name string) v1.ResolverRef {
	return resolverRef("cluster", "kind", kind.ConfigName(), "name", name, "namespace", namespace)
}

// resolverRef returns a reference with parameters, given as name, value, name, value.
func resolverRef(resolver string, params ...string) v1.ResolverRef {
	ref := v1.ResolverRef{Resolver: v1.ResolverName(resolver)}
	for pair := range slices.Chunk(params, 2) {
		ref.Params = append(ref.Params, v1.Param{Name: pair[0], Value: *v1.NewStructuredValues(pair[1])})
	}
	return ref
}

// Run creates a TaskRun and waits until it has ended.
func (c *Cluster) Run(ctx context.Context, run *v1.TaskRun, timeout time.Duration) (*v1.TaskRun, error) {
	namespace := run.Namespace
	runs := c.Tekton.TektonV1().TaskRuns(namespace)
	run, err := runs.Create(ctx, run, metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	name := run.Name
	err = wait.PollUntilContextTimeout(ctx, PollInterval, timeout, true, func(ctx context.Context) (bool, error) {
		run, err = runs.Get(ctx, name, metav1.GetOptions{})
		return err == nil && run.IsDone(), nil
	})
	if err != nil {
		return nil, fmt.Errorf("TaskRun %s/%s did not end within %v: %w", namespace, name, timeout, err)
	}
	return run, nil
}

// RunKind is a kind of run as Tekton Chains spells it in annotations.
type RunKind string

// The kinds of runs.
const (
	TaskRun     RunKind = "taskrun"
	PipelineRun RunKind = "pipelinerun"
)

// Envelope returns the DSSE envelope with an attestation that Tekton Chains has stored on
// a run. It does not verify the signature.
func Envelope(run metav1.Object, kind RunKind) ([]byte, error) {
	key := fmt.Sprintf("chains.tekton.dev/signature-%s-%s", kind, run.GetUID())
	encoded, found := run.GetAnnotations()[key]
	if !found {
		return nil, fmt.Errorf("%s %s/%s has no annotation %s with a signed attestation", kind, run.GetNamespace(), run.GetName(), key)
	}
	envelope, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, fmt.Errorf("%s %s/%s: annotation %s: %w", kind, run.GetNamespace(), run.GetName(), key, err)
	}
	return envelope, nil
}

// Attestation returns the statement that Tekton Chains has signed for a run and stored on
// the run. It verifies the signature with public.
func Attestation(run metav1.Object, kind RunKind, public crypto.PublicKey) ([]byte, error) {
	envelope, err := Envelope(run, kind)
	if err != nil {
		return nil, err
	}
	verifier, err := signature.LoadVerifier(public, crypto.SHA256)
	if err != nil {
		return nil, err
	}
	if err := sigdsse.WrapVerifier(verifier).VerifySignature(bytes.NewReader(envelope), nil); err != nil {
		return nil, fmt.Errorf("%s %s/%s: attestation: %w", kind, run.GetNamespace(), run.GetName(), err)
	}
	var signed dsse.Envelope
	if err := json.Unmarshal(envelope, &signed); err != nil {
		return nil, err
	}
	return signed.DecodeB64Payload()
}
