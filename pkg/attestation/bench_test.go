// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"testing"

	intoto "github.com/in-toto/attestation/go/v1"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"github.com/trusted-resources/chains-extension/pkg/dependencies"
	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

const many = 50

// sourceOf returns the source of Task number i.
func sourceOf(i int) v1.RefSource {
	digest := sha256.Sum256(fmt.Append(nil, i))
	return v1.RefSource{URI: fmt.Sprintf("git+https://git.example/catalog-%d", i), Digest: map[string]string{"sha256": fmt.Sprintf("%x", digest)}}
}

func BenchmarkAnnotate50(b *testing.B) {
	descriptors, records := make([]*intoto.ResourceDescriptor, 0, many), make([]Record, 0, many)
	for i := range many {
		descriptors = append(descriptors, descriptor("pipelineTask", sourceOf(i)))
		records = append(records, record(dependency(dependencies.PipelineTask, fmt.Sprintf("task-%d", i), from(sourceOf(i))), outcome(policy.Passed, "")))
	}
	s, report := statement(b, descriptors...), reportOf(records...)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Annotate(s, report); err != nil {
			b.Fatal(err)
		}
	}
}

// policies are the policies of one namespace, with inline keys.
type policies []*v1alpha1.VerificationPolicy

func (p policies) Policies(string) ([]*v1alpha1.VerificationPolicy, error) { return p, nil }

// BenchmarkEvaluate50 evaluates 5 policies, of which one matches, on 50 Tasks. Each
// Task has two candidates, of which the second verifies.
func BenchmarkEvaluate50(b *testing.B) {
	private := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	pem := string(must(cryptoutils.MarshalPublicKeyToPEM(private.Public())))
	all := make(policies, 0, 5)
	for i := range 5 {
		all = append(all, &v1alpha1.VerificationPolicy{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("policy-%d", i)},
			Spec: v1alpha1.VerificationPolicySpec{
				Mode:        v1alpha1.ModeEnforce,
				Resources:   []v1alpha1.ResourcePattern{{Pattern: map[bool]string{true: ".*", false: "https://elsewhere/.*"}[i == 0]}},
				Authorities: []v1alpha1.Authority{{Name: "key", Key: &v1alpha1.KeyRef{Data: pem}}},
			},
		})
	}
	items := make([]dependencies.Dependency, 0, many)
	for i := range many {
		checksum := sha256.Sum256(fmt.Append(nil, i))
		digest := sha256.Sum256(checksum[:])
		signature := resource.EncodeSignature(must(private.Sign(rand.Reader, digest[:], crypto.SHA256)))
		items = append(items, dependency(dependencies.PipelineTask, fmt.Sprintf("task-%d", i), from(sourceOf(i)), candidates("", signature), func(d *dependencies.Dependency) {
			d.Content.Checksum = checksum[:]
		}))
	}
	for name, remembered := range map[string]bool{"cold": false, "remembered": true} {
		b.Run(name, func(b *testing.B) {
			verifier := policy.New(all, nil, policy.Sources{Clock: clock.RealClock{}})
			b.ReportAllocs()
			for b.Loop() {
				if !remembered {
					verifier = policy.New(all, nil, policy.Sources{Clock: clock.RealClock{}})
				}
				if report := reported(b, verifier, nil, items...); report.Result() != policy.Passed {
					b.Fatalf("got %s", report.Result())
				}
			}
		})
	}
}
