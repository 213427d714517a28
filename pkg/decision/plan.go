package decision

import (
	"context"
	"errors"
	"fmt"

	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// Authorities knows the authorities of the policies that apply in a namespace.
type Authorities interface {
	// Verify says whether one of them verifies sig over message. An error
	// means that it could not be found out.
	Verify(ctx context.Context, namespace string, sig, message []byte) (bool, error)
}

// ErrUndecided says that a signature on a resource might be somebody else's,
// so that it is not overwritten.
var ErrUndecided = errors.New("cannot tell whose signature this is, so it is kept")

// Plan is what has to be done with one state of a resource.
type Plan struct {
	// Reason is NotNeeded when there is nothing to do.
	Reason Reason
	// Checksum is what is or will be signed.
	Checksum []byte
	// Key is the active key.
	Key *keys.Key
}

// Sign signs what was planned. The signature has been verified.
func (p Plan) Sign(ctx context.Context) ([]byte, error) { return p.Key.Sign(ctx, p.Checksum) }

// MakePlan looks at the signature on obj and decides. The error wraps
// keys.ErrNoKey or ErrUndecided when that is why there is no plan.
func MakePlan(ctx context.Context, obj resource.Object, signerType string, ring *keys.Ring, authorities Authorities) (Plan, error) {
	key, err := ring.Active(signerType)
	if err != nil {
		return Plan{}, err
	}
	checksum, err := resource.Checksum(ctx, obj)
	if err != nil {
		return Plan{}, fmt.Errorf("computing the checksum: %w", err)
	}
	state, err := inspect(ctx, obj, checksum, key, ring, authorities)
	if err != nil {
		return Plan{}, err
	}
	return Plan{Reason: Decide(state), Checksum: checksum, Key: key}, nil
}

// inspect asks the cheapest witness first: authorities may need the API server
// or a KMS.
func inspect(ctx context.Context, obj resource.Object, checksum []byte, active *keys.Key, ring *keys.Ring, authorities Authorities) (SignatureState, error) {
	sig, err := resource.Signature(obj)
	switch {
	case errors.Is(err, resource.ErrUnsigned):
		return Unsigned, nil
	case errors.Is(err, resource.ErrMalformedSignature):
		return Invalid, nil
	case err != nil:
		return "", err
	case active.Verify(sig, checksum):
		return Active, nil
	case ring.Find(sig, checksum) != nil:
		return Superseded, nil
	}
	foreign, err := authorities.Verify(ctx, obj.GetNamespace(), sig, checksum)
	switch {
	case foreign:
		return Foreign, nil
	case err != nil:
		return "", fmt.Errorf("%w: %w", ErrUndecided, err)
	default:
		return Invalid, nil
	}
}
