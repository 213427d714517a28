package provenance

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	slsa "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/trusted-resources/chains-extension/pkg/evidence"
)

// Enrich returns the statement with the report in it: an annotation on the
// dependency of each resource, which is added where Chains made none, and the
// summary as a byproduct. The error says that the predicate is no SLSA v1
// provenance. The statement that is given stays as it is.
func Enrich(statement *intoto.Statement, report Report) (*intoto.Statement, error) {
	predicate, err := read(statement.GetPredicate())
	if err != nil {
		return nil, err
	}
	definition, run := predicate.GetBuildDefinition(), predicate.GetRunDetails()
	if definition == nil || run == nil {
		return nil, fmt.Errorf("the predicate has no build definition or no run details: %s", statement.GetPredicateType())
	}
	groups, others := group(sorted(report.Records))
	for _, g := range groups {
		dependency := find(definition.GetResolvedDependencies(), g)
		if dependency == nil {
			dependency = &intoto.ResourceDescriptor{Name: string(g.role), Uri: g.uri, Digest: g.digest}
			definition.ResolvedDependencies = append(definition.ResolvedDependencies, dependency)
		}
		if err := annotate(dependency, VerificationAnnotation, list(g.records, report.CheckedAt)); err != nil {
			return nil, err
		}
	}
	summary, err := structpb.NewStruct(report.summary(others))
	if err != nil {
		return nil, err
	}
	run.Byproducts = append(run.Byproducts, &intoto.ResourceDescriptor{Name: SummaryName, Annotations: summary})

	enriched := &intoto.Statement{Type: statement.GetType(), Subject: statement.GetSubject(), PredicateType: statement.GetPredicateType()}
	enriched.Predicate, err = write(predicate)
	return enriched, err
}

// dependencyGroup are the records that one dependency stands for.
type dependencyGroup struct {
	role    evidence.Role
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

// find is the first dependency that Chains made of the group, if it did.
func find(dependencies []*intoto.ResourceDescriptor, g *dependencyGroup) *intoto.ResourceDescriptor {
	at := slices.IndexFunc(dependencies, func(d *intoto.ResourceDescriptor) bool {
		return d.GetName() == string(g.role) && d.GetUri() == g.uri && maps.Equal(d.GetDigest(), g.digest)
	})
	if at < 0 {
		return nil
	}
	return dependencies[at]
}

func annotate(dependency *intoto.ResourceDescriptor, name string, value any) error {
	annotation, err := structpb.NewValue(value)
	if err != nil {
		return err
	}
	if dependency.Annotations == nil {
		dependency.Annotations = &structpb.Struct{}
	}
	if dependency.Annotations.Fields == nil {
		dependency.Annotations.Fields = map[string]*structpb.Value{}
	}
	dependency.Annotations.Fields[name] = annotation
	return nil
}

// read and write go through JSON, as Chains does when it makes the predicate.
func read(predicate *structpb.Struct) (*slsa.Provenance, error) {
	provenance := &slsa.Provenance{}
	if err := convert(predicate, provenance); err != nil {
		return nil, fmt.Errorf("the predicate is no SLSA v1 provenance: %w", err)
	}
	return provenance, nil
}

func write(provenance *slsa.Provenance) (*structpb.Struct, error) {
	predicate := &structpb.Struct{}
	return predicate, convert(provenance, predicate)
}

func convert(from, to proto.Message) error {
	data, err := protojson.Marshal(from)
	if err != nil {
		return err
	}
	return protojson.Unmarshal(data, to)
}
