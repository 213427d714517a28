// SPDX-License-Identifier: Apache-2.0

//go:build !race

package observe

// slowdown is how many times longer work may take: without the race detector, not longer.
const slowdown = 1
