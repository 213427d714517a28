// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

// report holds the results. Measurements that were not selected are nil.
type report struct {
	Machine      machine        `json:"machine"`
	Verification *verifications `json:"verification,omitempty"`
	Storage      *storage       `json:"storage,omitempty"`
	Latency      []latency      `json:"latency,omitempty"`
	Backlog      *backlog       `json:"backlog,omitempty"`
	Rotation     *rotation      `json:"rotation,omitempty"`
	Memory       []memory       `json:"memory,omitempty"`
	Gate         *gate          `json:"gate,omitempty"`
	Policies     *policies      `json:"policies,omitempty"`
	Cost         *cost          `json:"cost,omitempty"`
	Webhook      []webhook      `json:"webhook,omitempty"`
	Soak         *soak          `json:"soak,omitempty"`
}

func (r report) print(out io.Writer, format string) error {
	switch format {
	case formatJSON:
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(r)
	case formatYAML:
		content, err := yaml.Marshal(r)
		if err != nil {
			return err
		}
		_, err = out.Write(content)
		return err
	}
	return r.printTables(out)
}

// machine describes the computer and the Go release of a report.
type machine struct {
	CPU   string `json:"cpu"`
	Cores int    `json:"cores"`
	Go    string `json:"go"`
}

func describeMachine() machine {
	m := machine{CPU: runtime.GOARCH, Cores: runtime.NumCPU(), Go: runtime.Version()}
	content, _ := os.ReadFile("/proc/cpuinfo") // no name without the file, and on platforms without "model name"
	for line := range strings.Lines(string(content)) {
		if model, found := strings.CutPrefix(line, "model name"); found {
			m.CPU = strings.Trim(model, " \t:\n")
		}
	}
	return m
}

// Units of the report. In JSON and YAML they are plain numbers.
type (
	microseconds float64
	milliseconds float64
	seconds      float64
	mebibytes    float64
)

func inMicroseconds(d time.Duration) microseconds { return microseconds(float64(d) / 1000) }
func inMilliseconds(d time.Duration) milliseconds { return milliseconds(1000 * d.Seconds()) }
func inSeconds(d time.Duration) seconds           { return seconds(d.Seconds()) }
func inMebibytes(bytes int64) mebibytes           { return mebibytes(float64(bytes) / (1 << 20)) }

func (m microseconds) String() string { return fmt.Sprintf("%.1f µs", float64(m)) }
func (m milliseconds) String() string { return fmt.Sprintf("%.1f ms", float64(m)) }
func (s seconds) String() string      { return fmt.Sprintf("%.1f s", float64(s)) }
func (m mebibytes) String() string    { return fmt.Sprintf("%.0f MiB", float64(m)) }
