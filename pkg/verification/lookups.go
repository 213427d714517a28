// SPDX-License-Identifier: Apache-2.0

package verification

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/trusted-resources/chains-extension/pkg/dependencies"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// lookupsTimeout bounds all searches for signatures in the registry for one
// report. A run can have hundreds of unsigned resources behind it, and a worker
// waits for the report.
const lookupsTimeout = 30 * time.Second

// lookups searches for the signatures of the resources of one report. After the
// first search that got no answer in time, it searches no more.
type lookups struct {
	from  dependencies.StoredSignatures
	clock clock.PassiveClock

	mu       sync.Mutex
	deadline time.Time // zero before the first search
	gaveUp   error     // why no more searches are made
}

var _ dependencies.StoredSignatures = (*lookups)(nil)

// Signature implements dependencies.StoredSignatures.
func (l *lookups) Signature(ctx context.Context, kind resource.Kind, namespace, name string, checksum []byte) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gaveUp != nil {
		return "", l.gaveUp
	}
	if l.deadline.IsZero() {
		l.deadline = l.clock.Now().Add(lookupsTimeout)
	}
	limited, cancel := context.WithTimeout(ctx, l.deadline.Sub(l.clock.Now()))
	defer cancel()
	signature, err := l.from.Signature(limited, kind, namespace, name, checksum)
	if network, ok := errors.AsType[net.Error](err); ok && network.Timeout() && ctx.Err() == nil {
		l.gaveUp = fmt.Errorf("the registry was not asked, because an earlier search for this run got no answer in time: %w", err)
	}
	return signature, err
}
