package policy

import (
	"cmp"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"slices"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
)

// Set is what the policies of a namespace trust at one moment, with their
// keys loaded. It is never changed after it was made.
type Set struct {
	id       [sha256.Size]byte // of all that decides: policies by UID and version, and their keys
	policies []policy          // those to enforce first, then by name
	expires  time.Time         // when its keys are to be read again; zero for never
	kmsRead  time.Time         // when the oldest key from a KMS was read; zero without one
}

type policy struct {
	name        string
	mode        Mode
	patterns    []pattern
	authorities []authority
	problem     Reason // why there are no authorities
	message     string
}

// authority is a public key that is trusted.
type authority struct {
	key      fingerprint
	verifier signature.Verifier
	problem  string // why it verifies nothing: its KMS does not answer
}

// fingerprint tells which signatures a key verifies: it hashes the message
// first.
type fingerprint struct {
	id   string // as keyring.KeyID says
	hash crypto.Hash
	kms  string // reference to the KMS that verifies, if any
}

// NewSet loads the keys of the policies.
func NewSet(ctx context.Context, policies []*v1alpha1.VerificationPolicy, keys *Keys) *Set {
	t := &Set{policies: make([]policy, 0, len(policies))}
	sorted := slices.Clone(policies)
	slices.SortFunc(sorted, func(a, b *v1alpha1.VerificationPolicy) int {
		return cmp.Or(cmp.Compare(modeOf(a), modeOf(b)), cmp.Compare(a.Name, b.Name))
	})
	id := sha256.New()
	for _, p := range sorted {
		loaded := keys.load(ctx, p)
		t.rest(loaded)
		compiled := policy{
			name: p.Name, mode: modeOf(p), authorities: loaded.authorities,
			problem: loaded.problem, message: loaded.message,
			patterns: make([]pattern, 0, len(p.Spec.Resources)),
		}
		for _, resource := range p.Spec.Resources {
			compiled.patterns = append(compiled.patterns, compile(resource.Pattern))
		}
		t.policies = append(t.policies, compiled)

		identify(id, p, loaded)
	}
	id.Sum(t.id[:0])
	return t
}

func identify(id hash.Hash, p *v1alpha1.VerificationPolicy, l loaded) {
	write := func(fact string) {
		_ = binary.Write(id, binary.BigEndian, uint64(len(fact))) // a hash takes all that it is given
		id.Write([]byte(fact))
	}
	for _, fact := range []string{string(p.UID), p.Name, p.ResourceVersion, string(l.problem)} {
		write(fact)
	}
	for _, a := range l.authorities {
		for _, fact := range []string{a.key.id, a.key.hash.String(), a.key.kms} {
			write(fact)
		}
	}
	write("") // the end of the authorities
}

// rest takes in how long what was loaded holds.
func (t *Set) rest(l loaded) {
	if !l.expires.IsZero() && (t.expires.IsZero() || l.expires.Before(t.expires)) {
		t.expires = l.expires
	}
	if !l.kmsRead.IsZero() && (t.kmsRead.IsZero() || l.kmsRead.Before(t.kmsRead)) {
		t.kmsRead = l.kmsRead
	}
}

// modeOf: Tekton enforces whatever it is not told to warn about.
func modeOf(p *v1alpha1.VerificationPolicy) Mode {
	if p.Spec.Mode == v1alpha1.ModeWarn {
		return Warn
	}
	return Enforce
}
