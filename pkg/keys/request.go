// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"context"
	"strings"
	"time"

	"github.com/sigstore/sigstore/pkg/signature/kms"
)

// Operation is what a request asks a KMS for.
type Operation string

// The operations.
const (
	OperationConnect   Operation = "connect" // make a client, which some KMS answer
	OperationPublicKey Operation = "public_key"
	OperationSign      Operation = "sign"
	OperationVerify    Operation = "verify"
	OperationVersion   Operation = "latest_version"
)

// Request is a request to a KMS that ended, or for whose answer the caller does not wait any
// more.
type Request struct {
	// Provider is the scheme of the reference to the key, such as "hashivault". It is empty if
	// this process has no client for the scheme.
	Provider  string
	Operation Operation
	Took      time.Duration
	Err       error
}

// NewRequest returns a request about a key that began at a time and ends now.
func NewRequest(operation Operation, keyRef string, began time.Time, err error) Request {
	provider := ""
	for _, scheme := range kms.SupportedProviders() {
		if strings.HasPrefix(keyRef, scheme) {
			provider = strings.TrimSuffix(scheme, "://")
		}
	}
	return Request{Provider: provider, Operation: operation, Took: time.Since(began), Err: err}
}

// Observer is told of each request. It does not wait.
type Observer func(context.Context, Request)
