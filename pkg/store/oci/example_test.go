// SPDX-License-Identifier: Apache-2.0

package oci_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"strings"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/tektoncd/chains/pkg/chains/signing"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/oci/imagesignature"
	"github.com/trusted-resources/chains-extension/pkg/oci/registry"
	"github.com/trusted-resources/chains-extension/pkg/store/oci"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
	"github.com/trusted-resources/chains-extension/test/fixtures"
)

// Put a Task into a registry, then find the Task by its name. Find returns the
// Task only if a trusted key signed it.
func ExampleStore() {
	ctx := logging.WithLogger(context.Background(), zap.NewNop().Sugar())
	host, stop := startRegistry()
	defer stop()
	key, trusted := newKey(ctx)

	store := &oci.Store{Registry: registry.NewClient(registry.Options{}), Prefix: host + "/tekton"}
	task := &v1.Task{
		ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "build"},
		Spec:       v1.TaskSpec{Steps: []v1.Step{{Name: "run", Image: "busybox", Script: "make"}}},
	}
	for range 2 {
		result, err := store.Put(ctx, task, nil, key, tekton.Newest) // nil: Put signs the Task
		if err != nil {
			panic(err)
		}
		fmt.Println("uploaded:", result.Uploaded)
	}

	newest, err := store.Find(ctx, oci.IDOf(task), nil, trusted)
	if err != nil {
		panic(err)
	}
	fmt.Println("found:", oci.IDOf(newest.Resources[0].Object))
	fmt.Println("signed by our key:", newest.Resources[0].Signer == key.ID)

	_, others := newKey(ctx)
	_, err = store.Find(ctx, oci.IDOf(task), nil, others)
	fmt.Println("not trusted with another key:", errors.Is(err, oci.ErrNotTrusted))
	// Output:
	// uploaded: true
	// uploaded: false
	// found: Task prod/build
	// signed by our key: true
	// not trusted with another key: true
}

// Sign a bundle that another tool has pushed, and inspect the bundle.
// Image.CheckTrust decides whether the bundle and all its resources are signed.
func ExampleInspect() {
	ctx := logging.WithLogger(context.Background(), zap.NewNop().Sugar())
	host, stop := startRegistry()
	defer stop()
	author, _ := newKey(ctx)
	auditor, trusted := newKey(ctx)
	store := &oci.Store{Registry: registry.NewClient(registry.Options{}), Prefix: host + "/tekton"}
	pushed, err := store.Put(ctx, &v1.Task{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "build"}}, nil, author, tekton.Newest)
	if err != nil {
		panic(err)
	}

	if _, err := oci.Sign(ctx, store.Registry, pushed.Reference, auditor, imagesignature.Options{}); err != nil {
		panic(err)
	}
	image, err := oci.Inspect(ctx, store.Registry, pushed.Reference, trusted)
	if err != nil {
		panic(err)
	}
	fmt.Println("trusted signatures of the bundle:", len(image.Signers))
	fmt.Println("trusted signature of the Task:", image.Resources[0].Signer != "")
	fmt.Println("bundle trusted:", image.CheckTrust() == nil)
	// Output:
	// trusted signatures of the bundle: 1
	// trusted signature of the Task: false
	// bundle trusted: false
}

// startRegistry starts an in-memory registry on the loopback interface.
func startRegistry() (host string, stop func()) {
	server := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)), ggcr.WithReferrersSupport(true)))
	return strings.TrimPrefix(server.URL, "http://"), server.Close
}

// newKey returns a new signing key, and a key ring that trusts only this key.
func newKey(ctx context.Context) (*keys.Key, *keys.Ring) {
	dir, err := os.MkdirTemp("", "signing-secrets-")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	secret, public, err := fixtures.X509Secret()
	if err := errors.Join(err, secret.Write(dir)); err != nil {
		panic(err)
	}
	key, err := keys.Load(ctx, dir, keys.Settings{SignerTypes: []string{signing.TypeX509}}).Active(signing.TypeX509)
	if err != nil {
		panic(err)
	}
	trusted, err := keys.NewVerifyingRing(public)
	if err != nil {
		panic(err)
	}
	return key, trusted
}
