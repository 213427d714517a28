// SPDX-License-Identifier: Apache-2.0

//go:build !race

// Package racedetector says how much slower a test is that was built with Go's race detector.
package racedetector

// Slowdown is how many times longer the work of a test may take.
const Slowdown = 1
