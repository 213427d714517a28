// SPDX-License-Identifier: Apache-2.0

//go:build race

package observe

// slowdown is how many times longer work may take because of the race detector.
const slowdown = 10
