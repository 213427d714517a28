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
	"github.com/trusted-resources/chains-extension/test/harness"
)

// registries are those that a user may have, by what sets them apart.
var registries = map[string]func(e *env) (host string){
	"with the referrers API": func(e *env) string { return e.registry().Host() },
	"without it": func(e *env) string {
		e.Helper()
		registry, err := harness.StartRegistryWithoutReferrers(e.Context())
		e.check(err)
		e.cleanup(registry.Stop)
		return registry.Host()
	},
	"CNCF Distribution": func(e *env) string { return e.distribution(harness.DistributionOptions{}).Host() },
}

func (e *env) distribution(options harness.DistributionOptions) *harness.Distribution {
	e.Helper()
	distribution, err := harness.StartDistribution(e.Context(), os.Stderr, options)
	e.check(err)
	e.cleanup(distribution.Stop)
	return distribution
}

// storingSettings keep all kinds in a registry, where they say "oci".
func storingSettings(host, storage string) map[string]string {
	settings := maps.Clone(signAll)
	for _, kind := range resource.Kinds {
		settings["artifacts."+kind.ConfigName()+".storage"] = storage
	}
	settings["trustedresources.oci.repository"] = host + "/tekton"
	return settings
}

// newStore is a reader that is not the controller.
func newStore(host string) *oci.Store {
	return &oci.Store{Registry: registry.NewClient(registry.Options{}), Prefix: host + "/tekton"}
}

// storeIn has the controller keep all kinds in a registry, and gives a reader.
func (e *env) storeIn(host, storage string) *oci.Store {
	e.Helper()
	e.configure(storingSettings(host, storage))
	return newStore(host)
}

// trusting are the keys as an auditor has them.
func (e *env) trusting(public ...crypto.PublicKey) *keys.Ring {
	e.Helper()
	ring, err := keys.NewVerifyingRing(public...)
	e.check(err)
	return ring
}

// stored waits until a state of an object is in the registry.
func (e *env) stored(store *oci.Store, obj resource.Object) *oci.Image {
	e.Helper()
	checksum, err := resource.Checksum(e.Context(), obj)
	e.check(err)
	var found *oci.Image
	e.eventually(soon, func() error {
		found, err = store.Find(e.Context(), oci.IDOf(obj), checksum, e.trusting(e.public))
		return err
	})
	return found
}

// What is stored, stock tools find and accept, in any registry; and nothing that
// was changed.
func TestStoredBundles(t *testing.T) {
	for name, start := range registries {
		t.Run(name, func(t *testing.T) {
			e := prepare(t)
			host := start(e)
			store := e.storeIn(host, "tekton,oci")
			e.controller = e.replica("controller")
			ns, away := e.namespace(), e.namespaceWith(nil)
			e.check(cluster.TrustFrom(t.Context(), away, regexp.QuoteMeta(host+"/tekton/"+ns), e.public))

			created := e.create(task(ns, "build"))
			e.signed(ns, "build")
			found := e.stored(store, created)
			e.event(created, "ResourceStored", found.Reference)
			e.cosignAccepts(found.Reference)

			tag := host + "/tekton/" + ns + ":" + hex.EncodeToString(found.Resources[0].Checksum)
			e.runsFrom(away, tag)
			e.runsFrom(away, host+"/tekton/"+ns+":task.build")

			e.refusesImage(e.replaceLayer(tag))
			e.wasRefused(e.runBundle(away, tag))
			checksum := found.Resources[0].Checksum
			if _, err := store.Find(t.Context(), oci.IDOf(created), checksum, e.trusting(e.public)); !errors.Is(err, oci.ErrNotTrusted) {
				t.Errorf("a tag that was moved is read as %v", err)
			}
		})
	}
}

func (e *env) runBundle(namespace, reference string) *v1.TaskRun {
	e.Helper()
	return e.runTaskRef(namespace, v1.TaskRef{ResolverRef: harness.BundleRef(reference, resource.Task, "build")})
}

// runsFrom runs the Task "build" of a bundle where a policy has Tekton verify it.
func (e *env) runsFrom(namespace, reference string) {
	e.Helper()
	run := e.runBundle(namespace, reference)
	if c := run.Status.GetCondition(apis.ConditionSucceeded); !c.IsTrue() {
		e.Errorf("the run of %s failed: %s: %s", reference, c.Reason, c.Message)
	}
	if c := run.Status.GetCondition(trustedresources.ConditionTrustedResourcesVerified); !c.IsTrue() {
		e.Errorf("Tekton's verdict on %s is %+v", reference, c)
	}
}

// cosignAccepts has each release of cosign verify an image with our key, and
// refuse it with another.
func (e *env) cosignAccepts(references ...string) {
	e.Helper()
	images := make([]name.Digest, 0, len(references))
	for _, reference := range references {
		images = append(images, e.image(reference))
	}
	other, err := harness.NewSigner()
	e.check(err)
	public, err := other.PublicKey()
	e.check(err)
	for _, cosign := range harness.Cosigns {
		if _, err := cosign.VerifyImages(e.Context(), e.public, images); err != nil {
			e.Error(err)
		}
		if _, err := cosign.VerifyImages(e.Context(), public, images[:1]); err == nil {
			e.Errorf("cosign %s accepts %s with another key", cosign.Version, images[0])
		}
	}
}

// replaceLayer is what an attacker with write access to the registry does: the
// same tag, the same annotations, another script. It returns the new bundle.
func (e *env) replaceLayer(tag string) (reference string) {
	e.Helper()
	ref, err := name.ParseReference(tag)
	e.check(err)
	original, err := remote.Image(ref, remote.WithContext(e.Context()))
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
		e.Fatal("nothing to change in the layer")
	}
	image, err := mutate.Append(mutate.MediaType(empty.Image, types.OCIManifestSchema1), mutate.Addendum{
		Layer: static.NewLayer(changed, types.OCIUncompressedLayer), Annotations: manifest.Layers[0].Annotations,
	})
	e.check(err)
	e.check(remote.Write(ref, image, remote.WithContext(e.Context())))
	digest, err := image.Digest()
	e.check(err)
	return ref.Context().Digest(digest.String()).String()
}

// With the registry alone, the object in the cluster stays as it was applied.
func TestStoredInTheRegistryAlone(t *testing.T) {
	e := prepare(t)
	store := e.storeIn(e.registry().Host(), "oci")
	e.controller = e.replica("controller")
	ns := e.namespace()
	created := e.create(task(ns, "build"))
	found := e.stored(store, created)
	e.cosignAccepts(found.Reference)
	if now := e.get(ns, "build"); now.ResourceVersion != created.ResourceVersion {
		t.Errorf("the object was written to: %v", now.ManagedFields)
	}
	if err := harness.Verify(t.Context(), found.Resources[0].Object, e.public); err != nil {
		t.Errorf("Tekton refuses what is stored: %v", err)
	}

	e.patch(ns, "build", `{"spec":{"description":"another"}}`)
	changed := e.get(ns, "build")
	e.stored(store, changed)
	e.stored(store, created) // history stays
	newest, err := store.Find(t.Context(), oci.IDOf(created), nil, e.trusting(e.public))
	e.check(err)
	if got := newest.Resources[0].Object.(*v1.Task).Spec.Description; got != "another" {
		t.Errorf("the newest state has description %q", got)
	}
}

// A registry that is away keeps nothing from being signed, is told about, and
// gets what it missed.
func TestRegistryAway(t *testing.T) {
	e := prepare(t)
	registry := e.registry()
	store := e.storeIn(registry.Host(), "tekton,oci")
	e.check(registry.Stop())
	e.controller = e.replica("controller")
	ns := e.namespace()
	created := e.create(task(ns, "build"))
	e.signed(ns, "build")
	e.event(created, "NotStored", "tried again", registry.Host())

	e.check(registry.Start(t.Context()))
	e.stored(store, created)
	e.event(created, "ResourceStored")
}

// The credentials are image pull secrets of the controller's service account,
// the certificate authority is one of its environment. It heals when they do.
func TestRegistryWithPasswordAndCA(t *testing.T) {
	e := prepare(t)
	distribution := e.distribution(harness.DistributionOptions{TLS: true, Users: map[string]string{"chains": "secret"}})
	e.storeIn(distribution.Host(), "tekton,oci")
	e.controller = e.replicaIn([]string{"SSL_CERT_FILE=" + distribution.CA()}, "controller")
	ns := e.namespace()
	created := e.create(task(ns, "build"))
	e.signed(ns, "build")
	e.event(created, "NotStored", distribution.Host())

	e.pullSecret(distribution.Host(), "chains", "wrong")
	e.patch(ns, "build", `{"spec":{"description":"another"}}`)
	e.event(e.get(ns, "build"), "NotStored", "401")
	e.pullSecret(distribution.Host(), "chains", "secret")
	e.event(created, "ResourceStored", distribution.Host()+"/tekton/"+ns+"@sha256:")

	log, err := e.controller.Log()
	e.check(err)
	if strings.Contains(log, "secret\"") || strings.Contains(log, base64.StdEncoding.EncodeToString([]byte("chains:secret"))) {
		t.Error("the log has the password in it")
	}
}

// pullSecret gives the controller's service account credentials for a registry.
func (e *env) pullSecret(host, user, password string) {
	e.Helper()
	const name = "registry"
	config := fmt.Sprintf(`{"auths":{%q:{"username":%q,"password":%q}}}`, host, user, password)
	secrets, accounts := cluster.Kube.CoreV1().Secrets(harness.SystemNamespace), cluster.Kube.CoreV1().ServiceAccounts(harness.SystemNamespace)
	_, err := secrets.Apply(e.Context(), corev1apply.Secret(name, harness.SystemNamespace).
		WithType(corev1.SecretTypeDockerConfigJson).WithStringData(map[string]string{corev1.DockerConfigJsonKey: config}), applying)
	e.check(err)
	_, err = accounts.Apply(e.Context(), corev1apply.ServiceAccount(harness.ServiceAccount, harness.SystemNamespace).
		WithImagePullSecrets(corev1apply.LocalObjectReference().WithName(name)), applying)
	e.check(err)
	e.cleanup(func() error {
		err := secrets.Delete(cleanupContext(), name, metav1.DeleteOptions{})
		if apierrors.IsNotFound(err) {
			return nil // this runs for each password
		}
		return err
	})
}

var applying = metav1.ApplyOptions{FieldManager: "test", Force: true}

// All that Tekton has as examples comes back as it was, when the cluster has
// forgotten it.
func TestRoundTripOfTektonsExamples(t *testing.T) {
	e := prepare(t)
	store := e.storeIn(e.registry().Host(), "tekton,oci")
	e.controller = e.replica("controller")
	auditor := e.trusting(e.public)
	forgotten := map[applied]resource.Object{}
	for _, a := range e.applyExamples() {
		var obj resource.Object
		e.eventually(soon, func() (err error) {
			if obj, err = cluster.Resource(t.Context(), a.kind, a.namespace, a.name); err == nil {
				err = harness.Verify(t.Context(), obj, e.public)
			}
			return err
		})
		e.stored(store, obj)
		e.check(cluster.DeleteResource(t.Context(), a.kind, a.namespace, a.name))
		forgotten[a] = obj
	}
	var references []string
	for a, was := range forgotten {
		checksum, err := resource.Checksum(t.Context(), was)
		e.check(err)
		found, err := store.Find(t.Context(), oci.ID{Kind: a.kind, Namespace: a.namespace, Name: a.name}, checksum, auditor)
		if err != nil {
			t.Error(err)
			continue
		}
		references = append(references, found.Reference)
		if err := harness.Verify(t.Context(), found.Resources[0].Object, e.public); err != nil {
			t.Errorf("%v: Tekton refuses what came back: %v", a, err)
		}
		want, err := harness.Manifest(was)
		e.check(err)
		got, err := harness.Manifest(found.Resources[0].Object)
		e.check(err)
		if !bytes.Equal(got, want) {
			t.Errorf("%v: stored was\n%s\ncame back\n%s", a, want, got)
		}
	}
	t.Logf("%d resources came back", len(references))
	e.cosignAccepts(references...)
}
