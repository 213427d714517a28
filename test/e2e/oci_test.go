// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1apply "k8s.io/client-go/applyconfigurations/core/v1"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/oci/registry"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/store/oci"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// registries starts each kind of registry that users have.
var registries = map[string]func(e *env) (host string){
	"with the referrers API": func(e *env) string { return e.startRegistry().Host() },
	"without the referrers API": func(e *env) string {
		e.t.Helper()
		registry, err := harness.StartRegistryWithoutReferrers(e.t.Context())
		e.check(err)
		e.cleanup(registry.Stop)
		return registry.Host()
	},
	"CNCF Distribution": func(e *env) string { return e.startDistribution(harness.DistributionOptions{}).Host() },
}

func (e *env) startDistribution(options harness.DistributionOptions) *harness.Distribution {
	e.t.Helper()
	distribution, err := harness.StartDistribution(e.t.Context(), os.Stderr, options)
	e.check(err)
	e.cleanup(distribution.Stop)
	return distribution
}

// storingSettings returns settings that sign all kinds. A storage of "oci" stores them
// in the registry at host.
func storingSettings(host, storage string) map[string]string {
	settings := maps.Clone(signAll)
	for _, kind := range resource.Kinds {
		settings["artifacts."+kind.ConfigName()+".storage"] = storage
	}
	settings["trustedresources.oci.repository"] = host + "/tekton"
	return settings
}

// newReader returns a client that reads what the controller has stored.
func newReader(host string) *oci.Store {
	return &oci.Store{Registry: registry.NewClient(registry.Options{}), Prefix: host + "/tekton"}
}

// configureStore makes the controller store all kinds in a registry, and returns a
// reader.
func (e *env) configureStore(host, storage string) *oci.Store {
	e.t.Helper()
	e.configure(storingSettings(host, storage))
	return newReader(host)
}

// keyRing returns a key ring that trusts public keys, like the one of an auditor.
func (e *env) keyRing(public ...crypto.PublicKey) *keys.Ring {
	e.t.Helper()
	ring, err := keys.NewVerifyingRing(public...)
	e.check(err)
	return ring
}

// waitStored waits until the registry has the present content of an object.
func (e *env) waitStored(store *oci.Store, obj resource.Object) *oci.Image {
	e.t.Helper()
	checksum, err := resource.Checksum(e.t.Context(), obj, tekton.Newest)
	e.check(err)
	var found *oci.Image
	e.eventually(soon, func() error {
		found, err = store.Find(e.t.Context(), oci.IDOf(obj), checksum, e.keyRing(e.public))
		return err
	})
	return found
}

// In each kind of registry, Tekton and cosign accept the stored bundle, and reject it
// after a layer was replaced.
func TestStoring_BundlesPassStockTools(t *testing.T) {
	for name, start := range registries {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			host := start(e)
			store := e.configureStore(host, "tekton,oci")
			e.controller = e.addReplica("controller")
			ns, away := e.namespace(), e.namespaceLabelled(nil)
			e.check(cluster.TrustFrom(t.Context(), away, regexp.QuoteMeta(host+"/tekton/"+ns), e.public))

			created := e.createTask(newTask(ns, "build"))
			e.waitSigned(ns, "build")
			found := e.waitStored(store, created)
			e.waitEvent(created, "ResourceStored", found.Reference)
			e.expectCosignAccepts(found.Reference)

			tag := host + "/tekton/" + ns + ":" + hex.EncodeToString(found.Resources[0].Checksum())
			e.expectRunsFrom(away, tag)
			e.expectRunsFrom(away, host+"/tekton/"+ns+":task.build")

			e.expectImageRejected(e.replaceLayer(tag))
			e.expectRefused(e.runBundle(away, tag))
			checksum := found.Resources[0].Checksum()
			if _, err := store.Find(t.Context(), oci.IDOf(created), checksum, e.keyRing(e.public)); !errors.Is(err, oci.ErrNotTrusted) {
				t.Errorf("reading a replaced bundle: got error %v, want %v", err, oci.ErrNotTrusted)
			}
		})
	}
}

func (e *env) runBundle(namespace, reference string) *v1.TaskRun {
	e.t.Helper()
	return e.runTaskRef(namespace, v1.TaskRef{ResolverRef: harness.BundleRef(reference, resource.Task, "build")})
}

// expectRunsFrom runs the Task "build" of a bundle in a namespace with a policy, and
// requires that Tekton verifies the Task and runs it.
func (e *env) expectRunsFrom(namespace, reference string) {
	e.t.Helper()
	run := e.runBundle(namespace, reference)
	if c := run.Status.GetCondition(apis.ConditionSucceeded); !c.IsTrue() {
		e.t.Errorf("the run of %s failed: %s: %s", reference, c.Reason, c.Message)
	}
	if c := run.Status.GetCondition(trustedresources.ConditionTrustedResourcesVerified); !c.IsTrue() {
		e.t.Errorf("run of %s: TrustedResourcesVerified is %+v, want True", reference, c)
	}
}

// expectCosignAccepts requires that each release of cosign accepts images with our key
// and rejects them with another key.
func (e *env) expectCosignAccepts(references ...string) {
	e.t.Helper()
	images := make([]name.Digest, 0, len(references))
	for _, reference := range references {
		images = append(images, e.parseDigest(reference))
	}
	other, err := harness.NewSigner()
	e.check(err)
	public, err := other.PublicKey()
	e.check(err)
	for _, cosign := range harness.Cosigns {
		if _, err := cosign.VerifyImages(e.t.Context(), e.public, images); err != nil {
			e.t.Error(err)
		}
		if _, err := cosign.VerifyImages(e.t.Context(), public, images[:1]); err == nil {
			e.t.Errorf("cosign %s accepts %s with another key", cosign.Version, images[0])
		}
	}
}

// replaceLayer does what an attacker with write access to the registry can do: it
// pushes a bundle with another script under the same tag, with the same annotations.
// It returns the digest reference of the new bundle.
func (e *env) replaceLayer(tag string) (reference string) {
	e.t.Helper()
	ref, err := name.ParseReference(tag)
	e.check(err)
	original, err := remote.Image(ref, remote.WithContext(e.t.Context()))
	e.check(err)
	manifest, err := original.Manifest()
	e.check(err)
	layers, err := original.Layers()
	e.check(err)
	content, err := layers[0].Uncompressed()
	e.check(err)
	var archive bytes.Buffer
	_, err = archive.ReadFrom(content)
	e.check(err)
	changed := bytes.Replace(archive.Bytes(), []byte("echo hello"), []byte("echo hellp"), 1)
	if bytes.Equal(changed, archive.Bytes()) {
		e.t.Fatal("the layer does not contain the script to change")
	}
	image, err := mutate.Append(mutate.MediaType(empty.Image, types.OCIManifestSchema1), mutate.Addendum{
		Layer: static.NewLayer(changed, types.OCIUncompressedLayer), Annotations: manifest.Layers[0].Annotations,
	})
	e.check(err)
	e.check(remote.Write(ref, image, remote.WithContext(e.t.Context())))
	digest, err := image.Digest()
	e.check(err)
	return ref.Context().Digest(digest.String()).String()
}

// With the storage "oci" alone, the controller does not change the object in the
// cluster.
func TestStoring_LeavesObjectUnchangedWithRegistryOnly(t *testing.T) {
	e := newEnv(t)
	store := e.configureStore(e.startRegistry().Host(), "oci")
	e.controller = e.addReplica("controller")
	ns := e.namespace()
	created := e.createTask(newTask(ns, "build"))
	found := e.waitStored(store, created)
	e.expectCosignAccepts(found.Reference)
	if now := e.getTask(ns, "build"); now.ResourceVersion != created.ResourceVersion {
		t.Errorf("the object has changed: managed fields are %v", now.ManagedFields)
	}
	if err := harness.Verify(t.Context(), found.Resources[0].Object, e.public); err != nil {
		t.Errorf("Tekton's verifier rejects the stored Task: %v", err)
	}

	e.patchTask(ns, "build", `{"spec":{"description":"another"}}`)
	changed := e.getTask(ns, "build")
	e.waitStored(store, changed)
	e.waitStored(store, created) // the older state is still stored
	newest, err := store.Find(t.Context(), oci.IDOf(created), nil, e.keyRing(e.public))
	e.check(err)
	if got := newest.Resources[0].Object.(*v1.Task).Spec.Description; got != "another" {
		t.Errorf("the newest stored Task has description %q, want another", got)
	}
}

// While the registry is down, the controller signs resources and reports that storing
// failed. When the registry is back, the controller stores them.
func TestStoring_RetriesWhileRegistryIsDown(t *testing.T) {
	e := newEnv(t)
	registry := e.startRegistry()
	store := e.configureStore(registry.Host(), "tekton,oci")
	e.check(registry.Stop())
	e.controller = e.addReplica("controller")
	ns := e.namespace()
	created := e.createTask(newTask(ns, "build"))
	e.waitSigned(ns, "build")
	e.waitEvent(created, "NotStored", "tried again", registry.Host())

	e.check(registry.Start(t.Context()))
	e.waitStored(store, created)
	e.waitEvent(created, "ResourceStored")
}

// The credentials come from image pull secrets of the controller's service account. The
// certificate authority comes from the environment variable SSL_CERT_FILE. The
// controller uses new credentials without a restart.
func TestStoring_UsesPullSecretsAndCA(t *testing.T) {
	e := newEnv(t)
	const password = "pull-password"
	distribution := e.startDistribution(harness.DistributionOptions{TLS: true, Users: map[string]string{"chains": password}})
	e.configureStore(distribution.Host(), "tekton,oci")
	e.controller = e.addReplicaWithEnv([]string{"SSL_CERT_FILE=" + distribution.CA()}, "controller")
	ns := e.namespace()
	created := e.createTask(newTask(ns, "build"))
	e.waitSigned(ns, "build")
	e.waitEvent(created, "NotStored", distribution.Host())

	e.applyPullSecret(distribution.Host(), "chains", "wrong")
	e.patchTask(ns, "build", `{"spec":{"description":"another"}}`)
	e.waitEvent(e.getTask(ns, "build"), "NotStored", "401")
	e.applyPullSecret(distribution.Host(), "chains", password)
	e.waitEvent(created, "ResourceStored", distribution.Host()+"/tekton/"+ns+"@sha256:")

	log, err := e.controller.Log()
	e.check(err)
	if strings.Contains(log, password) || strings.Contains(log, base64.StdEncoding.EncodeToString([]byte("chains:"+password))) {
		t.Error("the log of the controller contains the password")
	}
}

// applyPullSecret creates an image pull secret for a registry and adds it to the
// controller's service account.
func (e *env) applyPullSecret(host, user, password string) {
	e.t.Helper()
	const name = "registry"
	config := fmt.Sprintf(`{"auths":{%q:{"username":%q,"password":%q}}}`, host, user, password)
	secrets, accounts := cluster.Kube.CoreV1().Secrets(harness.SystemNamespace), cluster.Kube.CoreV1().ServiceAccounts(harness.SystemNamespace)
	_, err := secrets.Apply(e.t.Context(), corev1apply.Secret(name, harness.SystemNamespace).
		WithType(corev1.SecretTypeDockerConfigJson).WithStringData(map[string]string{corev1.DockerConfigJsonKey: config}), applying)
	e.check(err)
	_, err = accounts.Apply(e.t.Context(), corev1apply.ServiceAccount(harness.ServiceAccount, harness.SystemNamespace).
		WithImagePullSecrets(corev1apply.LocalObjectReference().WithName(name)), applying)
	e.check(err)
	e.cleanup(func() error {
		err := secrets.Delete(cleanupContext(), name, metav1.DeleteOptions{})
		if apierrors.IsNotFound(err) {
			return nil // an earlier cleanup has deleted it: there is one for each password
		}
		return err
	})
}

var applying = metav1.ApplyOptions{FieldManager: "test", Force: true}

// The test stores all of Tekton's examples and deletes them from the cluster. What it
// then reads from the registry equals the deleted resources.
func TestStoring_RoundTripsTektonsExamples(t *testing.T) {
	e := newEnv(t)
	store := e.configureStore(e.startRegistry().Host(), "tekton,oci")
	e.controller = e.addReplica("controller")
	auditor := e.keyRing(e.public)
	deleted := map[applied]resource.Object{}
	for _, a := range e.applyExamples() {
		var obj resource.Object
		e.eventually(soon, func() (err error) {
			if obj, err = cluster.Resource(t.Context(), a.kind, a.namespace, a.name); err == nil {
				err = harness.Verify(t.Context(), obj, e.public)
			}
			return err
		})
		e.waitStored(store, obj)
		e.check(cluster.DeleteResource(t.Context(), a.kind, a.namespace, a.name))
		deleted[a] = obj
	}
	var references []string
	for a, was := range deleted {
		checksum, err := resource.Checksum(t.Context(), was, tekton.Newest)
		e.check(err)
		found, err := store.Find(t.Context(), oci.ID{Kind: a.kind, Namespace: a.namespace, Name: a.name}, checksum, auditor)
		if err != nil {
			t.Error(err)
			continue
		}
		references = append(references, found.Reference)
		if err := harness.Verify(t.Context(), found.Resources[0].Object, e.public); err != nil {
			t.Errorf("%v: Tekton's verifier rejects the stored resource: %v", a, err)
		}
		want, err := harness.Manifest(was)
		e.check(err)
		got, err := harness.Manifest(found.Resources[0].Object)
		e.check(err)
		if !bytes.Equal(got, want) {
			t.Errorf("%v: read from the registry\n%s\nwant\n%s", a, got, want)
		}
	}
	t.Logf("read %d resources from the registry", len(references))
	e.expectCosignAccepts(references...)
}
