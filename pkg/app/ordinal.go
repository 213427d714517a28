// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"os"

	"knative.dev/pkg/injection/sharedmain"
	"knative.dev/pkg/leaderelection"
)

// ordinalVariable has the name of a pod of a StatefulSet. If it is set, knative
// divides the resources by the ordinal in the name, and uses no leases.
const ordinalVariable = "STATEFUL_CONTROLLER_ORDINAL"

// checkOrdinal returns an error if knative cannot use the ordinal. Knative would
// then use leases in this replica, and none in the others, and two replicas would
// do the same work.
func checkOrdinal(ctx context.Context) error {
	pod, set := os.LookupEnv(ordinalVariable)
	if !set {
		return nil
	}
	config, err := sharedmain.GetLeaderElectionConfig(ctx)
	if err != nil {
		return fmt.Errorf("reading ConfigMap %s: %w", leaderelection.ConfigMapName(), err)
	}
	if _, _, err := leaderelection.NewStatefulSetBucketAndSet(int(config.Buckets)); err != nil {
		return fmt.Errorf("%s is %q and ConfigMap %s has buckets %d: %w; set buckets to the number of replicas of the StatefulSet, "+
			"and STATEFUL_SERVICE_NAME to its service", ordinalVariable, pod, leaderelection.ConfigMapName(), config.Buckets, err)
	}
	return nil
}
