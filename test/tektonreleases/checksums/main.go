// SPDX-License-Identifier: Apache-2.0

// Command checksums prints Tekton's checksum of each resource on its standard input.
// It is built with the Go module of one release of Tekton Pipelines, whose code does
// what Tekton does with a resource that a resolver returned: it decodes the resource,
// sets the defaults and computes the checksum.
//
// The input has the JSON of one resource on each line. The output has one line for
// each: the checksum in hexadecimal, or "-" and an error.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/tektoncd/pipeline/pkg/client/clientset/versioned/scheme"
	"knative.dev/pkg/apis"
)

// maxLine bounds one resource. The API server accepts 1.5 MiB.
const maxLine = 16 << 20

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "checksums:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	buffered := bufio.NewWriter(out)
	for lines.Scan() {
		sum, err := checksum(lines.Bytes())
		if err != nil {
			sum = "- " + strings.ReplaceAll(err.Error(), "\n", " ")
		}
		if _, err := fmt.Fprintln(buffered, sum); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return buffered.Flush()
}

// resource is a Task, Pipeline or StepAction.
type resource interface {
	apis.Defaultable
	Checksum() ([]byte, error)
}

func checksum(text []byte) (string, error) {
	decoded, _, err := scheme.Codecs.UniversalDeserializer().Decode(text, nil, nil)
	if err != nil {
		return "", err
	}
	r, ok := decoded.(resource)
	if !ok {
		return "", fmt.Errorf("a %T has no checksum", decoded)
	}
	r.SetDefaults(context.Background())
	sum, err := r.Checksum()
	return fmt.Sprintf("%x", sum), err
}
