// SPDX-License-Identifier: Apache-2.0

//go:build race

package policy

// scenarioCount is smaller with the race detector, which makes each scenario slow.
const scenarioCount = 2_000
