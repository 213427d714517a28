// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"slices"

	"github.com/sigstore/sigstore/pkg/signature/options"
	"github.com/tektoncd/pipeline/pkg/apis/config"

	"github.com/trusted-resources/chains-extension/pkg/keys"
)

// Input is one resource to verify.
type Input struct {
	// Checksum is Tekton's checksum of the resource.
	Checksum []byte
	// Signature is the base64 signature, as in the annotation
	// tekton.dev/signature. It is empty for an unsigned resource.
	Signature string
	// Source is the URI that policies match with their patterns, as Tekton's
	// resolvers report it (refSource.uri).
	Source string
	// NoMatch is the mode that counts when no policy matches, see NoMatch.
	NoMatch Mode
}

// NoMatch returns the mode for a value of Tekton's feature flag
// trusted-resources-verification-no-match-policy.
func NoMatch(flag string) Mode {
	switch flag {
	case config.IgnoreNoMatchPolicy, "":
		return Skip // Tekton's default
	case config.WarnNoMatchPolicy:
		return Warn
	default:
		return Enforce
	}
}

// Verify returns the verdict of the policies on the input. It can read Secrets
// and call a KMS.
func (s *Set) Verify(ctx context.Context, in Input) Verdict {
	m := s.match(in.Source)
	return m.verify(ctx, in, m.currentKeys(ctx, s.keys))
}

// verify returns the verdict of the matching policies with these keys.
func (m *match) verify(ctx context.Context, in Input, keys *matchKeys) Verdict {
	verdict := m.decide(ctx, in, keys)
	if m.own != nil {
		own := m.own.verify(ctx, in, keys.own)
		verdict.Own = &own
	}
	if m.shadowed != nil {
		shadow := m.shadowed.verify(ctx, in, keys.shadowed)
		verdict.Shadow = &shadow
	}
	return verdict
}

// decide is verify without the verdicts of others.
func (m *match) decide(ctx context.Context, in Input, keys *matchKeys) Verdict {
	if m.shadowed != nil { // all policies are in mode skip
		return skipped(m.policies)
	}
	if m.invalid != nil {
		return decide([]Outcome{*m.invalid})
	}
	if len(m.policies) == 0 {
		return Verdict{Outcome: Outcome{Mode: in.NoMatch, Result: Skipped, Reason: NoPolicy}}
	}
	outcomes := make([]Outcome, 0, len(m.policies))
	signature, err := base64.StdEncoding.DecodeString(in.Signature)
	if err != nil {
		for _, p := range m.policies {
			outcomes = append(outcomes, p.failed(SignatureInvalid, "the signature is not base64: "+err.Error()))
		}
		verdict := decide(outcomes)
		if verdict.Rank == nil {
			verdict.Mode = Enforce // Tekton refuses such a signature in every mode
		}
		return verdict
	}
	check := newSignatureCheck(signature, in.Checksum)
	for i, p := range m.policies {
		outcomes = append(outcomes, p.verify(ctx, in, keys.byPolicy[i], check))
	}
	return decide(outcomes)
}

func (p *policy) failed(reason Reason, message string) Outcome {
	o := p.outcome(Failed)
	o.Reason, o.Message = reason, message
	return o
}

func (p *policy) outcome(result Result) Outcome {
	return Outcome{Policy: p.object.Name, Rank: p.rank, Revision: p.revision(), Mode: p.mode, Result: result}
}

// verify returns Passed when one authority verifies the signature.
func (p *policy) verify(ctx context.Context, in Input, keys *policyKeys, check *signatureCheck) Outcome {
	if keys.problem != "" {
		return p.failed(keys.problem, keys.message)
	}
	if in.Signature == "" {
		return p.failed(Unsigned, "")
	}
	reason, message := SignatureInvalid, "no authority verifies the signature over this content"
	for _, a := range keys.authorities {
		if a.unavailable != nil {
			reason, message = KeyUnavailable, a.unavailable.Error()
			continue
		}
		err := check.verify(ctx, a)
		switch {
		case err == nil:
			passed := p.outcome(Passed)
			passed.KeyID = a.id.keyID
			return passed
		case isTimeout(err):
			reason, message = KeyUnavailable, "the KMS does not answer: "+err.Error()
		case a.id.kms != "" && reason == SignatureInvalid:
			message += "; the KMS says: " + err.Error()
		}
	}
	return p.failed(reason, message)
}

// isTimeout reports whether a KMS did not answer in time, which says nothing
// about the signature.
func isTimeout(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, keys.ErrNoAnswer)
}

// signatureCheck checks one signature over one message. It checks each key once,
// even when several policies trust the same key.
type signatureCheck struct {
	signature, message []byte
	results            map[authorityID]error
}

func newSignatureCheck(signature, message []byte) *signatureCheck {
	return &signatureCheck{signature: signature, message: message, results: map[authorityID]error{}}
}

func (c *signatureCheck) verify(ctx context.Context, a authority) error {
	err, known := c.results[a.id]
	if !known {
		err = a.verifier.VerifySignature(bytes.NewReader(c.signature), bytes.NewReader(c.message), options.WithContext(ctx))
		c.results[a.id] = err
	}
	return err
}

// Outcomes returns what each policy says of the input, whatever its patterns. The policies
// have the order of Names.
func (s *Set) Outcomes(ctx context.Context, in Input) ([]Outcome, error) {
	signature, err := base64.StdEncoding.DecodeString(in.Signature)
	if err != nil {
		return nil, err
	}
	check := newSignatureCheck(signature, in.Checksum)
	outcomes := make([]Outcome, 0, len(s.policies))
	for _, p := range s.policies {
		outcomes = append(outcomes, p.verify(ctx, in, p.currentKeys(ctx, s.keys), check))
	}
	return outcomes, ctx.Err()
}

// Names returns the names of the policies, those to enforce first.
func (s *Set) Names() []string {
	names := make([]string, 0, len(s.policies))
	for _, p := range s.policies {
		names = append(names, p.object.Name)
	}
	return names
}

// MayTrust says of each policy, in the order of Names, whether it may trust the key with an
// ID, for keys that can make no signature now. It is true for a policy with a key that
// cannot be read, or that is in a KMS, which may verify with more than one version.
func (s *Set) MayTrust(ctx context.Context, keyID string) ([]bool, error) {
	found := make([]bool, 0, len(s.policies))
	for _, p := range s.policies {
		keys := p.currentKeys(ctx, s.keys)
		found = append(found, keys.problem == KeyUnavailable || keys.problem == KeyNotAllowed ||
			slices.ContainsFunc(keys.authorities, func(a authority) bool {
				return a.id.keyID == keyID || a.id.kms != "" || a.unavailable != nil
			}))
	}
	return found, ctx.Err()
}
