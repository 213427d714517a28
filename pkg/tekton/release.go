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
	oldest         = "v1.10.0"
)

// ErrTooOld means that the installed release of Tekton Pipelines cannot verify
// the signatures of this controller.
var ErrTooOld = errors.New("the installed release of Tekton Pipelines cannot verify our signatures")

// Release is the installed release of Tekton Pipelines. The zero value stands for
// an unknown release.
type Release struct{ version string }

// ReleaseOf reads the release from the data of InfoConfigMap.
func ReleaseOf(info map[string]string) Release { return Release{info[infoVersionKey]} }

// Check returns an error that wraps ErrTooOld for releases whose verifier would
// reject our signatures: before v1.10.0 the JSON that Tekton hashes contains
// "metadata":{"creationTimestamp":null}, which the types of newer releases do not
// write. A release that is not a version, such as "devel", counts as current,
// because builds from source have no version.
func (r Release) Check() error {
	version := r.version
	if version != "" && version[0] != 'v' {
		version = "v" + version
	}
	if !semver.IsValid(version) || semver.Compare(version, oldest) >= 0 {
		return nil
	}
	return fmt.Errorf("%w: the Tekton Pipelines release is %s, expected %s or newer: "+
		"older ones compute another checksum and would refuse each signature; upgrade Tekton Pipelines",
		ErrTooOld, r.version, oldest)
}
