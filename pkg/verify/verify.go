package verify

import (
	"bytes"
	"encoding/base64"

	"github.com/tektoncd/pipeline/pkg/apis/config"
)

// Subject is what is verified.
type Subject struct {
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

// Verify says what the policies say about the subject.
func (t *Trust) Verify(s Subject) Verdict {
	matching, invalid := t.match(normalized(s.Source))
	if invalid != nil {
		return decide([]Outcome{*invalid})
	}
	if len(matching) == 0 {
		return Verdict{Outcome: Outcome{Mode: s.NoMatch, Result: Skipped, Reason: NoPolicy}}
	}
	check := checks{subject: s, done: map[fingerprint]bool{}}
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
		outcomes = append(outcomes, p.verify(&check))
	}
	return decide(outcomes)
}

// match returns the policies that have a pattern for the source. As in Tekton,
// a pattern that is no regular expression fails the verification, whatever its
// policy's mode, unless an earlier pattern of its policy matches.
func (t *Trust) match(source string) (matching []*policy, invalid *Outcome) {
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
func (p *policy) verify(check *checks) Outcome {
	if p.problem != "" {
		return p.failed(p.problem, p.message)
	}
	if check.subject.Signature == "" {
		return p.failed(Unsigned, "")
	}
	unanswered := ""
	for _, a := range p.authorities {
		switch {
		case a.problem != "":
			unanswered = a.problem
		case check.verifies(a):
			return Outcome{Policy: p.name, Mode: p.mode, Result: Passed, KeyID: a.key.id}
		}
	}
	if unanswered != "" {
		return p.failed(KeyUnavailable, unanswered)
	}
	return p.failed(SignatureInvalid, "no authority verifies the signature over this content")
}

// checks are the checks of one signature; policies that share a key share the
// check.
type checks struct {
	subject   Subject
	signature []byte
	done      map[fingerprint]bool
}

func (c *checks) decode() (err error) {
	c.signature, err = base64.StdEncoding.DecodeString(c.subject.Signature)
	return err
}

func (c *checks) verifies(a authority) bool {
	verified, known := c.done[a.key]
	if !known {
		verified = a.verifier.VerifySignature(bytes.NewReader(c.signature), bytes.NewReader(c.subject.Checksum)) == nil
		c.done[a.key] = verified
	}
	return verified
}
