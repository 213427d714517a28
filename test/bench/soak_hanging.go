// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// kmsPlaceholder stands for the address of the KMS that hangs, in a value of --set.
const kmsPlaceholder = "{kms}"

// hangingServers are a registry and a KMS that hang.
type hangingServers struct{ registry, kms *harness.Silent }

func startHanging(ctx context.Context) (s hangingServers, err error) {
	if s.registry, err = harness.StartSilent(ctx); err != nil {
		return s, err
	}
	if s.kms, err = harness.StartSilent(ctx); err != nil {
		err = errors.Join(err, s.registry.Stop())
	}
	return s, err
}

func (s hangingServers) stop() error { return errors.Join(s.registry.Stop(), s.kms.Stop()) }
