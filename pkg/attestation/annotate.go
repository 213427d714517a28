// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	slsa "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/trusted-resources/chains-extension/pkg/dependencies"
)

// Annotate returns a copy of the statement that contains the report: an
// annotation on the dependency of each resource, and the summary as a byproduct.
// A dependency that Chains did not write is added. The error means that the
// predicate is not SLSA v1 provenance. The statement that is given is not changed.
func Annotate(statement *intoto.Statement, report Report) (*intoto.Statement, error) {
	known, err := read(statement.GetPredicate())
	if err != nil {
		return nil, err
	}
	predicate, ok := proto.Clone(statement.GetPredicate()).(*structpb.Struct)
	if !ok {
		return nil, errors.New("the predicate cannot be copied")
	}
	definition, run := predicate.GetFields()["buildDefinition"].GetStructValue(), predicate.GetFields()["runDetails"].GetStructValue()
	if definition == nil || run == nil {
		return nil, fmt.Errorf("the predicate of type %q has no buildDefinition or no runDetails", statement.GetPredicateType())
	}
	groups, others := group(sorted(report.Records))
	dependencies := listIn(definition, "resolvedDependencies")
	if len(dependencies.Values) != len(known.GetBuildDefinition().GetResolvedDependencies()) {
		return nil, errors.New("the predicate has dependencies under another name than resolvedDependencies")
	}
	for _, g := range groups {
		at := g.find(known.GetBuildDefinition().GetResolvedDependencies())
		if at < 0 {
			at = len(dependencies.Values)
			dependencies.Values = append(dependencies.Values, structpb.NewStructValue(g.dependency()))
		}
		verifications, err := structpb.NewList(list(g.records, report.CheckedAt))
		if err != nil {
			return nil, err
		}
		annotations := structIn(dependencies.Values[at].GetStructValue(), "annotations")
		setField(annotations, VerificationAnnotation, structpb.NewListValue(verifications))
	}
	summary, err := structpb.NewStruct(map[string]any{"name": SummaryName, "annotations": report.summary(others)})
	if err != nil {
		return nil, err
	}
	byproducts := listIn(run, "byproducts")
	byproducts.Values = append(byproducts.Values, structpb.NewStructValue(summary))
	return &intoto.Statement{
		Type: statement.GetType(), Subject: statement.GetSubject(), PredicateType: statement.GetPredicateType(), Predicate: predicate,
	}, nil
}

// listIn returns the list in a field of an object. It adds the field if the object
// has none.
func listIn(object *structpb.Struct, name string) *structpb.ListValue {
	if object.Fields[name].GetListValue() == nil {
		setField(object, name, structpb.NewListValue(&structpb.ListValue{}))
	}
	return object.Fields[name].GetListValue()
}

// structIn is listIn for a field with an object.
func structIn(object *structpb.Struct, name string) *structpb.Struct {
	if object.Fields[name].GetStructValue() == nil {
		setField(object, name, structpb.NewStructValue(&structpb.Struct{}))
	}
	return object.Fields[name].GetStructValue()
}

// setField sets a field of an object. The map of fields may be nil.
func setField(object *structpb.Struct, name string, value *structpb.Value) {
	if object.Fields == nil {
		object.Fields = map[string]*structpb.Value{}
	}
	object.Fields[name] = value
}

// dependencyGroup holds the records that one dependency stands for.
type dependencyGroup struct {
	role    dependencies.Role
	uri     string
	digest  map[string]string
	records []Record
}

// group groups the records by source, because Chains writes one dependency for
// each source. It returns the records without a source as others.
func group(records []Record) (groups []*dependencyGroup, others []Record) {
	for _, record := range records {
		if record.Source.URI == "" {
			others = append(others, record)
			continue
		}
		at := slices.IndexFunc(groups, func(g *dependencyGroup) bool {
			return g.role == record.Role && g.uri == record.Source.URI && maps.Equal(g.digest, record.Source.Digest)
		})
		if at < 0 {
			at = len(groups)
			groups = append(groups, &dependencyGroup{role: record.Role, uri: record.Source.URI, digest: record.Source.Digest})
		}
		groups[at].records = append(groups[at].records, record)
	}
	slices.SortStableFunc(groups, func(a, b *dependencyGroup) int {
		return cmp.Or(cmp.Compare(a.role, b.role), cmp.Compare(a.uri, b.uri))
	})
	return groups, others
}

// find returns the index of the dependency that Chains wrote for the group,
// negative if there is none.
func (g *dependencyGroup) find(dependencies []*intoto.ResourceDescriptor) int {
	return slices.IndexFunc(dependencies, func(d *intoto.ResourceDescriptor) bool {
		return d.GetName() == string(g.role) && d.GetUri() == g.uri && maps.Equal(d.GetDigest(), g.digest)
	})
}

// dependency returns a dependency for the group, as Chains would write it.
func (g *dependencyGroup) dependency() *structpb.Struct {
	fields := map[string]*structpb.Value{
		"name": structpb.NewStringValue(string(g.role)),
		"uri":  structpb.NewStringValue(strings.ToValidUTF8(g.uri, "\uFFFD")),
	}
	if len(g.digest) > 0 {
		digest := &structpb.Struct{Fields: map[string]*structpb.Value{}}
		for algorithm, value := range g.digest {
			digest.Fields[algorithm] = structpb.NewStringValue(value)
		}
		fields["digest"] = structpb.NewStructValue(digest)
	}
	return &structpb.Struct{Fields: fields}
}

// read decodes a predicate from its JSON, as Chains encoded it.
func read(predicate *structpb.Struct) (*slsa.Provenance, error) {
	provenance := &slsa.Provenance{}
	data, err := protojson.Marshal(predicate)
	if err == nil {
		err = protojson.Unmarshal(data, provenance)
	}
	if err != nil {
		return nil, fmt.Errorf("the predicate is not SLSA v1 provenance: %w", err)
	}
	return provenance, nil
}
