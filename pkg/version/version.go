// SPDX-License-Identifier: Apache-2.0

// Package version says of which release a program is.
package version

import "runtime/debug"

// unknown is the version of a program that was not built from a release.
const unknown = "devel"

// released is set by the linker when release/ builds a release.
var released string

// String returns the release, such as v0.1.0. A program that go install has built from a
// version of the module returns that version, and every other program returns devel.
func String() string {
	if released != "" {
		return released
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return unknown
	}
	return info.Main.Version
}
