// SPDX-License-Identifier: Apache-2.0

//go:build race

package racedetector

// Slowdown is how many times longer the work of a test may take.
const Slowdown = 10
