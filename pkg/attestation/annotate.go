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

// Enrich returns the statement with the report in it: an annotation on the
// dependency of each resource, which is added where Chains made none, and the
// summary as a byproduct. The error says that the predicate is no SLSA v1
// provenance. The statement that is given stays as it is.
func Enrich(statement *intoto.Statement, report Report) (*intoto.Statement, error) {
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
		return nil, fmt.Errorf("the predicate has no build definition or no run details: %s", statement.GetPredicateType())
	}
	groups, others := group(sorted(report.Records))
	dependencies := listIn(definition, "resolvedDependencies")
	if len(dependencies.Values) != len(known.GetBuildDefinition().GetResolvedDependencies()) {
		return nil, errors.New("the predicate spells resolvedDependencies otherwise")
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

// listIn is the list of that name in an object, which is made if need be.
func listIn(object *structpb.Struct, name string) *structpb.ListValue {
	if object.Fields[name].GetListValue() == nil {
		setField(object, name, structpb.NewListValue(&structpb.ListValue{}))
	}
	return object.Fields[name].GetListValue()
}

// structIn is the same for an object.
func structIn(object *structpb.Struct, name string) *structpb.Struct {
	if object.Fields[name].GetStructValue() == nil {
		setField(object, name, structpb.NewStructValue(&structpb.Struct{}))
	}
	return object.Fields[name].GetStructValue()
}

// setField sets a field, also of an object without any.
func setField(object *structpb.Struct, name string, value *structpb.Value) {
	if object.Fields == nil {
		object.Fields = map[string]*structpb.Value{}
	}
	object.Fields[name] = value
}

// dependencyGroup are the records that one dependency stands for.
type dependencyGroup struct {
	role    dependencies.Role
	uri     string
	digest  map[string]string
	records []Record
}

// group puts records of the same source together: Chains makes one dependency
// of them. Records without a source are no dependency.
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

// find is the place of the first dependency that Chains made of the group, or
// negative.
func (g *dependencyGroup) find(dependencies []*intoto.ResourceDescriptor) int {
	return slices.IndexFunc(dependencies, func(d *intoto.ResourceDescriptor) bool {
		return d.GetName() == string(g.role) && d.GetUri() == g.uri && maps.Equal(d.GetDigest(), g.digest)
	})
}

// dependency is the one that Chains did not make.
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

// read goes through JSON, as Chains does when it makes the predicate.
func read(predicate *structpb.Struct) (*slsa.Provenance, error) {
	provenance := &slsa.Provenance{}
	data, err := protojson.Marshal(predicate)
	if err == nil {
		err = protojson.Unmarshal(data, provenance)
	}
	if err != nil {
		return nil, fmt.Errorf("the predicate is no SLSA v1 provenance: %w", err)
	}
	return provenance, nil
}
