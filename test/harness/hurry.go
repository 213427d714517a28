// SPDX-License-Identifier: Apache-2.0

package harness

import "os"

// fastTekton raises the limit of Tekton's own requests, which is 20 per second by default.
// With the default limit, Tekton starts about 3 TaskRuns per second, and takes 0.4 s to
// record a Pod.
var fastTekton = map[string]string{"KUBE_API_QPS": "1000", "KUBE_API_BURST": "2000"}

// HurryTekton sets fastTekton for Tekton in the clusters that this process starts next.
func HurryTekton() error {
	for name, value := range fastTekton {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	return nil
}
