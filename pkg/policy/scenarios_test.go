// SPDX-License-Identifier: Apache-2.0

//go:build !race

package policy

// scenarioCount is the number of random scenarios of a comparison.
const scenarioCount = 50_000
