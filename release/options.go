// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"golang.org/x/mod/semver"
)

const (
	// module is the Go module of the product. The source is at this address, too.
	module = "github.com/trusted-resources/chains-extension"
	// defaultRepository is the repository that release.yaml names if no other is given.
	defaultRepository = "ghcr.io/trusted-resources/chains-extension/controller"
	// byHand is the builder of a release that somebody makes with make release.
	byHand = "https://" + module + "/blob/main/docs/release.md#by-hand"
)

// options are what the command line says.
type options struct {
	version    string
	repository string
	key        string
	builder    string
	cosign     []string
}

// check returns an error if a release with these options cannot be made.
func (o options) check() error {
	if semver.Canonical(o.version) != o.version || o.version == "" {
		return fmt.Errorf("--version is %q, expected a semantic version with three numbers, such as v0.1.0 or v0.1.0-rc.1", o.version)
	}
	if o.repository == "" {
		return nil
	}
	if _, err := name.NewRepository(o.repository, name.StrictValidation); err != nil {
		return fmt.Errorf("--repository is %q, expected a registry and a path: %w", o.repository, err)
	}
	return nil
}

// repositoryOf returns the repository that the manifests name for a program: the one of
// the options for the controller, and beside it one with the name of another program.
func (o options) repositoryOf(command string) string {
	repository := cmp.Or(o.repository, defaultRepository)
	if command == commands[0] {
		return repository
	}
	parent := repository[:strings.LastIndex(repository, "/")+1] // check has seen a path
	return parent + command
}
