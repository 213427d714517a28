// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"log"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	pipelinev1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"github.com/trusted-resources/chains-extension/pkg/policy"
)

// A policy trusts one inline key. The key signs a Task; then the Task changes.
func ExampleSet_Verify() {
	ctx := context.Background()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	publicPEM, err := cryptoutils.MarshalPublicKeyToPEM(private.Public())
	if err != nil {
		log.Fatal(err)
	}
	signer, err := signature.LoadSigner(private, crypto.SHA256)
	if err != nil {
		log.Fatal(err)
	}

	trusted := &v1alpha1.VerificationPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "trusted-catalog", Namespace: "build"},
		Spec: v1alpha1.VerificationPolicySpec{
			Resources:   []v1alpha1.ResourcePattern{{Pattern: "https://git.example/catalog"}},
			Authorities: []v1alpha1.Authority{{Name: "maintainers", Key: &v1alpha1.KeyRef{Data: string(publicPEM)}}},
		},
	}
	keys := policy.NewKeys(policy.Sources{Clock: clock.RealClock{}}) // the key is inline
	set := policy.NewSet([]*v1alpha1.VerificationPolicy{trusted}, keys)

	task := &pipelinev1.Task{ObjectMeta: metav1.ObjectMeta{Name: "compile", Namespace: "build"}}
	checksum, err := task.Checksum()
	if err != nil {
		log.Fatal(err)
	}
	sig, err := signer.SignMessage(bytes.NewReader(checksum))
	if err != nil {
		log.Fatal(err)
	}
	input := policy.Input{
		Checksum:  checksum,
		Signature: base64.StdEncoding.EncodeToString(sig),
		Source:    "git+https://git.example/catalog",
		NoMatch:   policy.Skip,
	}
	verdict := set.Verify(ctx, input)
	fmt.Println(verdict.Result, verdict.Policy)

	task.Spec.Description = "changed after signing"
	if input.Checksum, err = task.Checksum(); err != nil {
		log.Fatal(err)
	}
	verdict = set.Verify(ctx, input)
	fmt.Println(verdict.Result, verdict.Reason, verdict.Policy)

	input.Source = "https://git.example/other"
	verdict = set.Verify(ctx, input)
	fmt.Println(verdict.Result, verdict.Reason)
	// Output:
	// PASSED trusted-catalog
	// FAILED SignatureInvalid trusted-catalog
	// SKIPPED NoPolicy
}
