// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"

	provenance "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

const (
	predicateType = "https://slsa.dev/provenance/v1"
	// buildType is the page that defines the parameters of the build.
	buildType = "https://" + module + "/blob/main/docs/release.md#provenance"

	statementFile = "provenance.json"
	koModule      = "github.com/google/ko"
)

// toolModules are the modules that decide what is in the release, besides those of the
// source's own go.mod.
var toolModules = []string{koModule, "golang.org/x/crypto/x509roots/fallback", "sigs.k8s.io/kustomize/api"}

// writeProvenance writes the in-toto statement with the provenance of the files and of
// the images. It contains no time and no name of a machine, so that each run gives the
// same statement.
func (r *release) writeProvenance(ctx context.Context, files []file) error {
	predicate, err := r.predicate(ctx)
	if err != nil {
		return err
	}
	fields := &structpb.Struct{}
	content, err := protojson.Marshal(predicate)
	if err != nil {
		return err
	}
	if err := protojson.Unmarshal(content, fields); err != nil {
		return err
	}
	statement := &intoto.Statement{Type: intoto.StatementTypeUri, PredicateType: predicateType, Predicate: fields}
	for _, f := range files {
		statement.Subject = append(statement.Subject, &intoto.ResourceDescriptor{Name: f.name, Digest: map[string]string{"sha256": f.sha256}})
	}
	for _, made := range r.images {
		statement.Subject = append(statement.Subject, &intoto.ResourceDescriptor{
			Name: made.repository, Digest: map[string]string{made.digest.Algorithm: made.digest.Hex},
		})
	}
	if err := statement.Validate(); err != nil {
		return err
	}
	return writeJSON(filepath.Join(dist, statementFile), statement)
}

// predicate says from which source and with which tools the release is built.
func (r *release) predicate(ctx context.Context) (*provenance.Provenance, error) {
	parameters, err := structpb.NewStruct(map[string]any{"version": r.version, "repository": r.repositoryOf(commands[0])})
	if err != nil {
		return nil, err
	}
	compiler, err := goVersion(ctx)
	if err != nil {
		return nil, err
	}
	used := []*intoto.ResourceDescriptor{
		{Uri: "git+https://" + module, Digest: map[string]string{"gitCommit": r.source.commit}},
		{Uri: "pkg:golang/toolchain@" + compiler},
	}
	for _, tool := range toolModules {
		version, err := moduleVersion(tool)
		if err != nil {
			return nil, err
		}
		used = append(used, &intoto.ResourceDescriptor{Uri: "pkg:golang/" + tool + "@" + version})
	}
	p := &provenance.Provenance{
		BuildDefinition: &provenance.BuildDefinition{BuildType: buildType, ExternalParameters: parameters, ResolvedDependencies: used},
		RunDetails:      &provenance.RunDetails{Builder: &provenance.Builder{Id: r.builder}},
	}
	return p, p.Validate()
}

// goVersion returns the release of Go that compiles the programs.
func goVersion(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOVERSION").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOVERSION: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// moduleVersion returns the version of a module in this program.
func moduleVersion(path string) (string, error) {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dependency := range info.Deps {
			if dependency.Path == path {
				return dependency.Version, nil
			}
		}
	}
	return "", fmt.Errorf("this program contains no module %s", path)
}

// writeJSON writes a message as JSON with sorted keys. protojson itself does not promise
// the same bytes for the same message.
func writeJSON(path string, message proto.Message) error {
	content, err := protojson.Marshal(message)
	if err != nil {
		return err
	}
	var value any
	if err := json.Unmarshal(content, &value); err != nil {
		return err
	}
	sorted, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(sorted, '\n'), 0o644)
}
