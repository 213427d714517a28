// SPDX-License-Identifier: Apache-2.0

package verification

import (
	"context"
	"crypto"
	"encoding/binary"
	"fmt"
	"runtime"
	"strings"

	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// Memory is the memory of a Verifier with a full cache.
type Memory struct {
	// Verdicts is the number of verdicts that were computed: more than the cache holds.
	Verdicts int `json:"verdicts"`
	// SourceBytes is the length of each source.
	SourceBytes int `json:"sourceBytes"`
	// HeapBytes is the growth of the heap.
	HeapBytes int64 `json:"heapBytes"`
}

// MeasureMemory fills the cache of a Verifier. Each verdict has another source of
// sourceBytes bytes; one key made all signatures.
func MeasureMemory(ctx context.Context, sourceBytes int) (Memory, error) {
	signer, err := newLocalSigner()
	if err != nil {
		return Memory{}, err
	}
	c := &Comparison{}
	if c.policies, _, err = signer.policies(Scenario{Policies: 1, Matching: 1, Key: Inline}); err != nil {
		return Memory{}, err
	}
	m := Memory{Verdicts: policy.MaxVerdicts + policy.MaxVerdicts/10, SourceBytes: sourceBytes}
	before := heap()
	verifier := policy.New(c, nil, c.sources())
	for i := range m.Verdicts {
		in, err := signer.input(i, sourceBytes)
		if err != nil {
			return m, err
		}
		verdict, err := verifier.Verify(ctx, namespace, in)
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

func (k signer) input(i, sourceBytes int) (policy.Input, error) {
	digest := crypto.SHA256.New()
	checksum := digest.Sum(binary.BigEndian.AppendUint64(nil, uint64(i)))[:crypto.SHA256.Size()] //nolint:gosec // not negative
	sig, err := k.SignMessage(strings.NewReader(string(checksum)))
	address := fmt.Sprintf("%s/%d", strings.TrimSuffix(source, ".git"), i)
	return policy.Input{
		Checksum: checksum, Signature: resource.EncodeSignature(sig), NoMatch: policy.Skip,
		Source: address + strings.Repeat("x", max(0, sourceBytes-len(address))),
	}, err
}

// heap returns the bytes of all reachable objects.
func heap() int64 {
	runtime.GC()
	runtime.GC() // the objects that finalizers released
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc) //nolint:gosec // fits
}
