package verification

import (
	"context"
	"crypto"
	"encoding/binary"
	"fmt"
	"runtime"
	"strings"

	"k8s.io/utils/clock"

	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// Memory is that of a Verifier that remembers as much as it may.
type Memory struct {
	// Verdicts is what it was asked for: somewhat more than it may remember.
	Verdicts int `json:"verdicts"`
	// SourceBytes is how long the source of each is.
	SourceBytes int `json:"sourceBytes"`
	// HeapBytes is by how much the heap has grown.
	HeapBytes int64 `json:"heapBytes"`
}

// MeasureMemory has verdicts on signatures by one key, each with a source of
// its own of that many bytes.
func MeasureMemory(ctx context.Context, sourceBytes int) (Memory, error) {
	signer, err := newLocalSigner()
	if err != nil {
		return Memory{}, err
	}
	c := &Contest{}
	if c.policies, _, err = signer.policies(Scenario{Policies: 1, Matching: 1, Key: Inline}); err != nil {
		return Memory{}, err
	}
	m := Memory{Verdicts: policy.MaxVerdicts + policy.MaxVerdicts/10, SourceBytes: sourceBytes}
	before := heap()
	verifier := policy.New(c, c, clock.RealClock{})
	for i := range m.Verdicts {
		s, err := signer.subject(i, sourceBytes)
		if err != nil {
			return m, err
		}
		verdict, err := verifier.Verify(ctx, namespace, s)
		if err != nil {
			return m, err
		}
		if err := passed(verdict); err != nil {
			return m, err
		}
	}
	m.HeapBytes = heap() - before
	runtime.KeepAlive(verifier)
	return m, nil
}

func (k signer) subject(i, sourceBytes int) (policy.Input, error) {
	digest := crypto.SHA256.New()
	checksum := digest.Sum(binary.BigEndian.AppendUint64(nil, uint64(i)))[:crypto.SHA256.Size()] //nolint:gosec // not negative
	sig, err := k.SignMessage(strings.NewReader(string(checksum)))
	address := fmt.Sprintf("%s/%d", strings.TrimSuffix(source, ".git"), i)
	return policy.Input{
		Checksum: checksum, Signature: resource.EncodeSignature(sig), NoMatch: policy.Skip,
		Source: address + strings.Repeat("x", max(0, sourceBytes-len(address))),
	}, err
}

// heap is what is reachable.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what finalizers have let go of
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc) //nolint:gosec // fits
}
