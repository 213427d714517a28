// SPDX-License-Identifier: Apache-2.0

package decision_test

import (
	"context"
	"fmt"
	"log"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"

	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/decision"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/snapshot"
)

// What would happen to this Task, and why?
func ExampleDecide() {
	cfg, err := config.Parse(map[string]string{"artifacts.task.signer": "x509", "trustedresources.namespaces": "all"})
	if err != nil {
		log.Fatal(err)
	}
	task, err := resource.Summarize(context.Background(), &v1.Task{})
	if err != nil {
		log.Fatal(err)
	}
	s := &snapshot.Snapshot{Config: cfg, Keys: &keys.Ring{}, Namespace: snapshot.Namespace{Active: true}}
	d := decision.Decide(context.Background(), s, task)
	fmt.Println(d.Action, d.Reason, "-", d.Err)
	// Output: Wait NoKey - no usable key for signer "x509"
}
