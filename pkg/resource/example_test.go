// SPDX-License-Identifier: Apache-2.0

package resource_test

import (
	"context"
	"errors"
	"fmt"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

func ExampleSummarize() {
	task := &v1.Task{
		ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "build"},
		Spec:       v1.TaskSpec{Steps: []v1.Step{{Name: "make", Image: "registry.example/make:v1", Script: "make"}}},
	}
	summary, err := resource.Summarize(context.Background(), task)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s %s\n", summary.Kind, summary.Key())
	fmt.Printf("checksum %x\n", summary.Checksums.Content())
	fmt.Println("unsigned:", errors.Is(summary.SignatureError, resource.ErrUnsigned))
	// Output:
	// Task prod/build
	// checksum 107edfeeadc80dba0a6dba1988e3162a49958ea015d6c90e373ce456d357f88a
	// unsigned: true
}
