// SPDX-License-Identifier: Apache-2.0

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

// attested verifies the attestation of a TaskRun and prints the entry of its Task, in
// YAML because YAML is easier to read than JSON.
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
	d.sayf("TaskRun %s: provenance attestation: %s", name, observed)
	d.rows = append(d.rows, row{"Attestation of that TaskRun", "signed, verifies", observed})
	if provenance == nil {
		return nil
	}
	return d.show(provenance)
}

// show prints the verification status in an attestation.
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
		d.sayf("entry of the Task in the attestation:\n    %s", strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", "\n    "))
	}
	d.sayf("overall result: %s; Tekton's condition TrustedResourcesVerified: %s; comparison of both: %s", summary.Result, summary.Tekton.Status, summary.Agreement)
	d.rows = append(d.rows, row{"Result in the attestation", "Task PASSED", observed})
	return nil
}
