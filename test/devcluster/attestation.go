package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// attested shows what the attestation of a TaskRun says of its Task, in YAML
// because that is easier to read.
func (d *demonstration) attested(ctx context.Context, name string) error {
	var provenance *harness.Provenance
	observed := "signed, verifies"
	if err := d.until(ctx, func(ctx context.Context) error {
		run, err := d.Tekton.TektonV1().TaskRuns(demoNamespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		statement, err := harness.Attestation(run, harness.TaskRun, d.public)
		if err == nil {
			provenance, err = harness.ParseProvenance(statement)
		}
		return err
	}); err != nil {
		observed = err.Error()
	}
	d.sayf("TaskRun %s: provenance by Tekton Chains' reconciler: %s", name, observed)
	d.rows = append(d.rows, row{"Provenance of that TaskRun", "signed, verifies", observed})
	if provenance == nil {
		return nil
	}
	return d.show(provenance)
}

func (d *demonstration) show(provenance *harness.Provenance) error {
	verifications, err := provenance.Verifications()
	if err != nil {
		return err
	}
	summary, err := provenance.Summary()
	if err != nil {
		return err
	}
	if summary == nil {
		return errors.New("the attestation has no summary of verifications")
	}
	observed := summary.Result
	for _, v := range verifications {
		observed = fmt.Sprintf("%s %s", v.Kind, v.Result)
		data, err := protojson.Marshal(v.Dependency)
		if err != nil {
			return err
		}
		text, err := yaml.JSONToYAML(data)
		if err != nil {
			return err
		}
		d.sayf("the attestation says of the Task:\n    %s", strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", "\n    "))
	}
	d.sayf("in sum: %s; Tekton's condition is %s: %s", summary.Result, summary.Tekton.Status, summary.Agreement)
	d.rows = append(d.rows, row{"What the provenance says", "Task PASSED", observed})
	return nil
}
