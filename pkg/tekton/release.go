// SPDX-License-Identifier: Apache-2.0

// Package tekton has the rules that depend on the installed release of Tekton
// Pipelines.
package tekton

import (
	"errors"
	"fmt"

	"golang.org/x/mod/semver"
)

const (
	// InfoConfigMap is the ConfigMap in which Tekton Pipelines publishes its
	// release, in the namespace of Tekton Pipelines.
	InfoConfigMap = "pipelines-info"
	// DefaultNamespace is the namespace in which Tekton Pipelines is installed by
	// default.
	DefaultNamespace = "tekton-pipelines"

	infoVersionKey = "version"
	// oldest is the first release whose checksums are known: those of older ones were
	// not compared with ours (docs/design/0022).
	oldest = "v1.6.0"
)

// ErrTooOld means that the installed release of Tekton Pipelines cannot verify
// the signatures of this controller.
var ErrTooOld = errors.New("the installed release of Tekton Pipelines cannot verify our signatures")

// ErrUnread means that the installed release of Tekton Pipelines could not be read.
var ErrUnread = errors.New("the installed release of Tekton Pipelines cannot be read, and another release may compute another checksum")

// Release is the installed release of Tekton Pipelines. The zero value stands for a
// Tekton that does not publish its release.
type Release struct {
	version string
	unread  error
}

// ReleaseOf reads the release from the data of InfoConfigMap.
func ReleaseOf(info map[string]string) Release { return Release{version: info[infoVersionKey]} }

// Unread returns the release of a Tekton that may publish its release, and the reason
// why InfoConfigMap could not be read.
func Unread(err error) Release { return Release{unread: err} }

// ParseRelease reads a version such as v1.9.3. The error wraps ErrTooOld for releases
// whose checksums are not known.
func ParseRelease(version string) (Release, error) {
	r := Release{version: version}
	if !semver.IsValid(r.semantic()) {
		return Release{}, fmt.Errorf("%q is not a release of Tekton Pipelines, expected a version such as v1.9.3", version)
	}
	return r, r.Check()
}

// String returns the version as Tekton publishes it.
func (r Release) String() string { return r.version }

// Check returns an error that wraps ErrTooOld for releases whose checksums are not
// known, or ErrUnread. A release that is not a version, such as "devel", counts as current,
// because builds from source have no version.
func (r Release) Check() error {
	if r.unread != nil {
		return fmt.Errorf("%w: %w; let the controller's service account get, list and watch the ConfigMap %s, or set --tekton-namespace",
			ErrUnread, r.unread, InfoConfigMap)
	}
	version := r.semantic()
	if !semver.IsValid(version) || semver.Compare(version, oldest) >= 0 {
		return nil
	}
	return fmt.Errorf("%w: the Tekton Pipelines release is %s, expected %s or newer: "+
		"it is not known how older ones compute the checksum that is signed; upgrade Tekton Pipelines",
		ErrTooOld, r.version, oldest)
}

// semantic returns the version with the prefix of Go's versions.
func (r Release) semantic() string {
	if r.version == "" || r.version[0] == 'v' {
		return r.version
	}
	return "v" + r.version
}
