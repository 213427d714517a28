// Package tekton knows how the installed release of Tekton Pipelines bears on
// signatures.
package tekton

import (
	"fmt"

	"golang.org/x/mod/semver"
)

const (
	// InfoConfigMap is the ConfigMap in which Tekton Pipelines publishes its
	// release, in its own namespace.
	InfoConfigMap = "pipelines-info"
	// DefaultNamespace is where Tekton Pipelines is installed unless told otherwise.
	DefaultNamespace = "tekton-pipelines"

	infoVersionKey = "version"
	oldest         = "v1.10.0"
)

// CheckRelease refuses releases whose verifier would reject our signatures:
// until v1.10.0 the JSON that Tekton hashes contained
// "metadata":{"creationTimestamp":null}, which today's types no longer write.
// info is the data of InfoConfigMap. A release that cannot be read, such as
// "devel", counts as current: it is what a build from source says.
func CheckRelease(info map[string]string) error {
	found := info[infoVersionKey]
	version := found
	if version != "" && version[0] != 'v' {
		version = "v" + version
	}
	if !semver.IsValid(version) || semver.Compare(version, oldest) >= 0 {
		return nil
	}
	return fmt.Errorf("the Tekton Pipelines release is %s, expected %s or newer: "+
		"older ones compute another checksum and would refuse each signature; upgrade Tekton Pipelines", found, oldest)
}
