package policy

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"

	"github.com/sigstore/sigstore/pkg/signature/options"
	"github.com/tektoncd/pipeline/pkg/apis/config"
)

// Input is what is verified.
type Input struct {
	// Checksum is Tekton's checksum of the resource.
	Checksum []byte
	// Signature is the value of the annotation tekton.dev/signature, or of
	// another place that may hold one; empty for none.
	Signature string
	// Source is the URI that the patterns of policies are matched with, as
	// Tekton's resolvers report it (refSource.uri).
	Source string
	// NoMatch is what Tekton does when no policy matches, see NoMatch.
	NoMatch Mode
}

// NoMatch reads the value of Tekton's feature flag
// trusted-resources-verification-no-match-policy.
func NoMatch(flag string) Mode {
	switch flag {
	case config.IgnoreNoMatchPolicy, "":
		return Skip // what Tekton does by default
	case config.WarnNoMatchPolicy:
		return Warn
	default:
		return Enforce
	}
}

// Verify says what the policies say about the subject. It may ask a KMS.
func (t *Set) Verify(ctx context.Context, s Input) Verdict {
	matching, invalid := t.match(normalized(s.Source))
	if invalid != nil {
		return decide([]Outcome{*invalid})
	}
	if len(matching) == 0 {
		return Verdict{Outcome: Outcome{Mode: s.NoMatch, Result: Skipped, Reason: NoPolicy}}
	}
	check := checks{input: s, done: map[fingerprint]error{}}
	outcomes := make([]Outcome, 0, len(matching))
	if err := check.decode(); err != nil {
		for _, p := range matching {
			outcomes = append(outcomes, p.failed(SignatureInvalid, "the signature is no base64: "+err.Error()))
		}
		verdict := decide(outcomes)
		verdict.Mode = Enforce // Tekton refuses it whatever the policy's mode
		return verdict
	}
	for _, p := range matching {
		outcomes = append(outcomes, p.verify(ctx, &check))
	}
	return decide(outcomes)
}

// match returns the policies that have a pattern for the source. As in Tekton,
// a pattern that is no regular expression fails the verification, whatever its
// policy's mode, unless an earlier pattern of its policy matches.
func (t *Set) match(source string) (matching []*policy, invalid *Outcome) {
	for i := range t.policies {
		p := &t.policies[i]
		for _, pattern := range p.patterns {
			if pattern.err != nil {
				outcome := p.failed(PolicyInvalid, pattern.err.Error())
				outcome.Mode = Enforce
				return nil, &outcome
			}
			if pattern.expression.MatchString(source) {
				matching = append(matching, p)
				break
			}
		}
	}
	return matching, nil
}

func (p *policy) failed(reason Reason, message string) Outcome {
	return Outcome{Policy: p.name, Mode: p.mode, Result: Failed, Reason: reason, Message: message}
}

// verify: one authority is enough.
func (p *policy) verify(ctx context.Context, check *checks) Outcome {
	if p.problem != "" {
		return p.failed(p.problem, p.message)
	}
	if check.input.Signature == "" {
		return p.failed(Unsigned, "")
	}
	reason, message := SignatureInvalid, "no authority verifies the signature over this content"
	for _, a := range p.authorities {
		if a.problem != "" {
			reason, message = KeyUnavailable, a.problem
			continue
		}
		err := check.verify(ctx, a)
		if err == nil {
			return Outcome{Policy: p.name, Mode: p.mode, Result: Passed, KeyID: a.key.id}
		}
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			reason, message = KeyUnavailable, "the KMS does not answer: "+err.Error()
		case a.key.kms != "" && reason == SignatureInvalid:
			message += "; the KMS says: " + err.Error()
		}
	}
	return p.failed(reason, message)
}

// checks are the checks of one signature; policies that share a key share the
// check.
type checks struct {
	input     Input
	signature []byte
	done      map[fingerprint]error
}

func (c *checks) decode() (err error) {
	c.signature, err = base64.StdEncoding.DecodeString(c.input.Signature)
	return err
}

func (c *checks) verify(ctx context.Context, a authority) error {
	err, known := c.done[a.key]
	if !known {
		err = a.verifier.VerifySignature(bytes.NewReader(c.signature), bytes.NewReader(c.input.Checksum), options.WithContext(ctx))
		c.done[a.key] = err
	}
	return err
}
