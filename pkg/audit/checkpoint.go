// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/trusted-resources/chains-extension/pkg/keys"
)

// CheckpointType is the payloadType of the envelope of a checkpoint. No other envelope that
// the controller signs has the type.
const CheckpointType = "application/vnd.trustedresources.tekton.dev.audit-checkpoint.v1+json"

// MaxCheckpointDistance bounds the number of records between the record that a checkpoint
// names and the checkpoint itself.
const MaxCheckpointDistance = 4096

// CheckpointReason says why a checkpoint was made.
type CheckpointReason string

// The reasons of checkpoints.
const (
	EnoughRecords CheckpointReason = "records"
	EnoughTime    CheckpointReason = "interval"
	FileRotated   CheckpointReason = "rotation"
	Shutdown      CheckpointReason = "shutdown" // the last record of a stream
)

// Checkpoint is in records of type CheckpointMade. With a key, the payload of the envelope
// has the same Head and Reason.
type Checkpoint struct {
	Head   Head             `json:"head"`
	Reason CheckpointReason `json:"reason"`
	// Problem says why there is no signature.
	Problem string `json:"problem,omitempty"`
}

// Sign returns a record with a checkpoint. Without a signature, the record names the problem.
// key returns the key that signs.
func (c Checkpoint) Sign(ctx context.Context, key func() (*keys.Key, error)) Record {
	envelope, err := c.envelope(ctx, key)
	r := Record{Type: CheckpointMade, Outcome: Success, Checkpoint: &c, DSSE: envelope}
	if err != nil {
		c.Problem, r.Outcome = problem(err), Failure
	}
	return r
}

// problem describes an error without its details, which can name hosts and files.
func problem(err error) string {
	if errors.Is(err, keys.ErrNoKey) {
		return "there is no key that signs Tasks"
	}
	return "the key that signs Tasks made no signature"
}

func (c Checkpoint) envelope(ctx context.Context, key func() (*keys.Key, error)) (*dsse.Envelope, error) {
	k, err := key()
	if err != nil {
		return nil, err
	}
	payload, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	signer, err := dsse.NewEnvelopeSigner(checkpointKey{k})
	if err != nil {
		return nil, err
	}
	return signer.SignPayload(ctx, CheckpointType, payload)
}

// checkpointKey is a key that signs and verifies envelopes.
type checkpointKey struct{ *keys.Key }

var _ dsse.SignerVerifier = checkpointKey{}

// KeyID implements dsse.SignerVerifier.
func (k checkpointKey) KeyID() (string, error) { return k.ID, nil }

// Public implements dsse.Verifier.
func (k checkpointKey) Public() crypto.PublicKey { return k.PublicKey() }

// Verify implements dsse.Verifier.
func (k checkpointKey) Verify(_ context.Context, data, sig []byte) error {
	if !k.Key.Verify(sig, data) {
		return errNotVerified
	}
	return nil
}

var errNotVerified = errors.New("the key does not verify the signature")

// verifySignature returns the ID of the trusted key that signed the checkpoint of a record.
func verifySignature(ctx context.Context, r *Record, trusted *keys.Ring) (keyID string, err error) {
	if r.DSSE == nil {
		return "", fmt.Errorf("the checkpoint is not signed: %s", bounded(r.Checkpoint.Problem))
	}
	if r.DSSE.PayloadType != CheckpointType {
		return "", fmt.Errorf("found payloadType %q, expected %q", bounded(r.DSSE.PayloadType), CheckpointType)
	}
	verifiers := make([]dsse.Verifier, 0, len(trusted.Keys()))
	for _, key := range trusted.Keys() {
		verifiers = append(verifiers, checkpointKey{key})
	}
	verifier, err := dsse.NewEnvelopeVerifier(verifiers...)
	if err != nil {
		return "", err
	}
	accepted, payload, err := verifier.VerifyAndDecode(ctx, r.DSSE)
	if err != nil {
		return "", fmt.Errorf("no trusted key signed the checkpoint (signed with %s)", boundedHash(signers(r.DSSE)))
	}
	var signed Checkpoint
	if err := json.Unmarshal(payload, &signed); err != nil {
		return "", fmt.Errorf("the signed checkpoint cannot be read: %w", err)
	}
	if signed.Head != r.Checkpoint.Head || signed.Reason != r.Checkpoint.Reason {
		return "", errors.New("the record names another checkpoint than the signed one")
	}
	return accepted[0].KeyID, nil
}

func signers(e *dsse.Envelope) string {
	i := slices.IndexFunc(e.Signatures, func(s dsse.Signature) bool { return s.KeyID != "" })
	if i < 0 {
		return "a key without an ID"
	}
	return e.Signatures[i].KeyID
}
