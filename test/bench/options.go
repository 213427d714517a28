// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/trusted-resources/chains-extension/test/bench/verification"
)

// Formats of the report.
const (
	formatTable = "table"
	formatJSON  = "json"
	formatYAML  = "yaml"
)

type options struct {
	latency, backlog, memory, verification, storage, soak, gate, webhook, rotation, clusterPolicies, cost bool

	count        int
	memoryCounts []int
	rounds       int
	concurrency  int
	storageCount int
	commandCount int
	kms          string
	profiles     string
	output       string

	namespaces int // of the rotation

	policyNamespaces, policies int // of clusterPolicies

	// Of the gate: Pods that wait, and that have finished.
	waiting, finished int

	// Of the soak.
	duration, burstLength, burstEvery time.Duration
	honestRate, burstRate             int
	pace                              float64
	actions                           []string
	settings                          map[string]string
}

func (o options) needsCluster() bool {
	return o.latency || o.backlog || o.memory || o.soak || o.gate || o.webhook || o.rotation || o.clusterPolicies || o.cost
}

// latencyCount returns the number of Tasks for each row of the latency table.
func (o options) latencyCount() int { return o.count / 10 }

// memoryCount is the default of --memory-count for a run with --memory.
const memoryCount = 100_000

func parseOptions(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.BoolVar(&o.latency, "latency", false, "Measure how long a new Task waits for its signature. (Without --latency, --backlog, --memory, --verification and --storage, all of them are measured.)")
	flags.BoolVar(&o.backlog, "backlog", false, "Measure how fast existing Tasks are signed, compared with a client that only writes.")
	flags.BoolVar(&o.memory, "memory", false, "Measure the memory of the controller while it signs, and after a restart.")
	flags.Func("memory-count", fmt.Sprintf("Numbers of Tasks for --memory, separated by commas. (Default with --memory: %d, which takes about 15 minutes. Default in a run of all measurements: --count and four times --count, so that the run stays short.)", memoryCount), func(value string) (err error) {
		o.memoryCounts, err = parseCounts(value)
		return err
	})
	flags.BoolVar(&o.verification, "verification", false, "Measure how long a verification takes, compared with Tekton's. Needs no cluster.")
	flags.BoolVar(&o.storage, "storage", false, "Measure how fast resources are stored in registries on this machine, compared with tkn and cosign. Needs no cluster.")
	flags.IntVar(&o.storageCount, "storage-count", 500, "Number of resources that --storage stores in each pass.")
	flags.IntVar(&o.commandCount, "command-count", 20, "Number of resources that --storage stores with tkn and cosign in each pass. 0 leaves out tkn and cosign.")
	flags.StringVar(&o.kms, "kms", os.Getenv(verification.KMSVariable), "Reference to a signing key, such as hashivault://name, for the rows of --verification with a KMS. (Default: the environment variable "+verification.KMSVariable+".)")
	flags.IntVar(&o.count, "count", 5000, "Number of Tasks in the backlog, in --cost and in --rotation. --latency uses a tenth of this number.")
	flags.IntVar(&o.rounds, "rounds", 3, "Number of rounds of --backlog, --cost, --rotation and --storage.")
	flags.IntVar(&o.concurrency, "concurrency", 8, "Number of workers of the controller (--threads-per-controller) and of the bare client.")
	flags.StringVar(&o.profiles, "profile", "", "Directory for pprof profiles of the controller: CPU and heap in each round of --backlog, CPU in each round of --rotation, heap in --memory and every 5 minutes of --soak. Without a directory none are saved. Recording a CPU profile makes the controller slightly slower.")
	flags.StringVar(&o.output, "o", formatTable, "Format of the report: table, json or yaml.")
	flags.BoolVar(&o.gate, "gate", false, "Measure what the gate adds to the start of a TaskRun, how fast waiting Pods are decided, and the memory with finished Pods.")
	flags.IntVar(&o.waiting, "waiting", 1000, "Number of Pods that wait for the controller, for --gate.")
	flags.IntVar(&o.finished, "finished", 5000, "Number of finished Pods of TaskRuns, for --gate.")
	flags.BoolVar(&o.webhook, "webhook", false, "Measure what the webhook adds to requests. Only on request.")
	flags.BoolVar(&o.cost, "cost", false, "Measure how fast existing Tasks are signed with all metrics, traces and audit records, compared with none of them. Only on request.")
	flags.BoolVar(&o.rotation, "rotation", false, "Measure how long a rotation of a KeyRing takes, and how fast resources are signed again, compared with a client that only writes. Only on request. Each round takes at least 2 minutes.")
	flags.IntVar(&o.namespaces, "namespaces", 40, "Number of namespaces for --rotation, each with a VerificationPolicy.")
	flags.BoolVar(&o.clusterPolicies, "policies", false, "Measure how long ClusterVerificationPolicies need to come into force, what they write, and the memory with them. Only on request.")
	flags.IntVar(&o.policies, "policy-count", 200, "Number of ClusterVerificationPolicies for --policies.")
	flags.IntVar(&o.policyNamespaces, "policy-namespaces", 2000, "Number of namespaces for --policies.")
	o.soakFlags(flags)
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if len(o.memoryCounts) == 0 {
		o.memoryCounts = []int{o.count, 4 * o.count}
		if o.memory {
			o.memoryCounts = []int{memoryCount}
		}
	}
	if !o.needsCluster() && !o.verification && !o.storage {
		o.latency, o.backlog, o.memory, o.verification, o.storage = true, true, true, true, true
	}
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("unexpected arguments %q", flags.Args())
	case o.count < 10 || o.rounds < 1 || o.concurrency < 1:
		return o, fmt.Errorf("found --count=%d --rounds=%d --concurrency=%d, expected at least 10, 1 and 1", o.count, o.rounds, o.concurrency)
	case o.waiting < 2 || o.finished < 1:
		return o, fmt.Errorf("found --waiting=%d --finished=%d, expected at least 2 and 1", o.waiting, o.finished)
	case o.policies < 1 || o.policyNamespaces < 1:
		return o, fmt.Errorf("found --policy-count=%d --policy-namespaces=%d, expected at least 1 of each", o.policies, o.policyNamespaces)
	case o.namespaces < 1:
		return o, fmt.Errorf("found --namespaces=%d, expected at least 1", o.namespaces)
	case o.storageCount < 1 || o.commandCount < 0:
		return o, fmt.Errorf("found --storage-count=%d --command-count=%d, expected at least 1 and 0", o.storageCount, o.commandCount)
	case !slices.Contains([]string{formatTable, formatJSON, formatYAML}, o.output):
		return o, fmt.Errorf("found -o %q, expected %s, %s or %s", o.output, formatTable, formatJSON, formatYAML)
	}
	return o, o.checkSoak()
}

// soakFlags adds the flags of the soak. It is never part of a run of all measurements.
func (o *options) soakFlags(flags *flag.FlagSet) {
	flags.BoolVar(&o.soak, "soak", false, "Run an honest tenant beside four hostile ones, and fail if the honest one waits, the memory grows or the controller ends.")
	flags.DurationVar(&o.duration, "duration", 30*time.Minute, "Duration of --soak. The growth of the memory is known after more than 10 minutes.")
	flags.IntVar(&o.honestRate, "honest-rate", 5, "Tasks per second of the honest tenant of --soak.")
	flags.IntVar(&o.burstRate, "burst-rate", 60, "Tasks per second in a burst of a hostile tenant of --soak.")
	flags.DurationVar(&o.burstLength, "burst-length", 3*time.Second, "Length of a burst of --soak.")
	flags.DurationVar(&o.burstEvery, "burst-every", time.Minute, "Time between two bursts of one hostile tenant of --soak. The four tenants take turns.")
	flags.Float64Var(&o.pace, "pace", 1, "Factor for the time between two actions of the hostile tenants of --soak: 2 halves the load.")
	o.actions = allActions
	flags.Func("actions", "What the hostile tenants of --soak do, separated by commas. (Default: "+strings.Join(allActions, ",")+".)", func(list string) error {
		o.actions = strings.Split(list, ",")
		for _, name := range o.actions {
			if !slices.Contains(allActions, name) {
				return fmt.Errorf("found %q, expected some of %v", name, allActions)
			}
		}
		return nil
	})
	o.settings = map[string]string{}
	flags.Func("set", "One more setting of chains-config for --soak: KEY=VALUE, repeatable. "+kmsPlaceholder+" in the value stands for the address of a KMS that never answers.", func(text string) error {
		key, value, found := strings.Cut(text, "=")
		if !found || key == "" {
			return errors.New("expected KEY=VALUE")
		}
		o.settings[key] = value
		return nil
	})
}

func (o *options) checkSoak() error {
	if o.duration <= 0 || o.burstLength <= 0 || o.burstEvery <= 0 || o.honestRate < 1 || o.burstRate < 1 || o.pace <= 0 {
		return fmt.Errorf("found --duration=%v --burst-length=%v --burst-every=%v --honest-rate=%d --burst-rate=%d --pace=%v, expected values above 0",
			o.duration, o.burstLength, o.burstEvery, o.honestRate, o.burstRate, o.pace)
	}
	return nil
}

// parseCounts reads positive numbers that are separated by commas.
func parseCounts(list string) ([]int, error) {
	texts := strings.Split(list, ",")
	counts := make([]int, 0, len(texts))
	for _, text := range texts {
		count, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil {
			return nil, err
		}
		if count < 1 {
			return nil, errors.New("expected numbers of at least 1")
		}
		counts = append(counts, count)
	}
	return counts, nil
}
