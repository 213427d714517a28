// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// memory is the memory of the controller with a number of Tasks in the cluster.
type memory struct {
	Count int `json:"count"`
	// StartToLast is from the start of the first controller process to the
	// arrival of the last signature. It contains the leader election.
	StartToLast seconds `json:"startToLastSeconds"`
	// Accepted is the number of Tasks whose signature Tekton's verifier accepts.
	Accepted int `json:"accepted"`
	// AfterSigning is the footprint of the first process when the last signature
	// arrives, while most of the Events still wait in the process. The peak is
	// read later, before the process is stopped.
	AfterSigning footprint `json:"afterSigning"`
	// AfterStart is the footprint of a second process that has found all Tasks
	// signed and is idle.
	AfterStart footprint `json:"afterStart"`
	// LookedAtAll is from the start of the second process until it is idle,
	// exact to half a second.
	LookedAtAll seconds `json:"lookedAtAllSeconds"`
}

// footprint is the resident memory of a process, as the kernel counts it.
type footprint struct {
	Resident mebibytes `json:"residentMebibytes"`
	// Anonymous is the part of Resident that no file backs. It does not contain
	// the pages of the program file, which the kernel can drop and read again.
	Anonymous mebibytes `json:"anonymousMebibytes"`
	// Peak is the largest resident memory since the process started.
	Peak mebibytes `json:"peakMebibytes"`
}

func (b *bench) measureMemory(ctx context.Context, o options) ([]memory, error) {
	results := make([]memory, 0, len(o.memoryCounts))
	for i, count := range o.memoryCounts {
		namespace, err := b.createTasks(ctx, optedIn, count)
		if err != nil {
			return results, err
		}
		result, err := b.measureMemoryOf(ctx, namespace, count, o.concurrency)
		if err != nil {
			return results, err
		}
		results = append(results, result)
		if i == len(o.memoryCounts)-1 {
			break // the cluster ends after this measurement; to delete the Tasks would take minutes
		}
		if err := b.deleteNamespace(ctx, namespace); err != nil {
			return results, err
		}
	}
	return results, nil
}

// memoryPass is one number of Tasks in a namespace, and the controller that
// signs them.
type memoryPass struct {
	*bench
	namespace  string
	tracker    *tracker
	controller *harness.Controller
	profile    *controllerProfile
}

// measureMemoryOf measures one process that signs all Tasks of the namespace,
// and a second process that finds them signed.
func (b *bench) measureMemoryOf(ctx context.Context, namespace string, count, threads int) (result memory, err error) {
	ctx, cancel := context.WithTimeout(ctx, passTimeout(count))
	defer cancel()
	result.Count = count
	tracker, err := b.track(ctx, namespace)
	if err != nil {
		return result, err
	}
	b.log.Printf("%s: memory with %d Tasks", namespace, count)
	err = b.withController(ctx, threads, func(controller *harness.Controller) error {
		pass := memoryPass{b, namespace, tracker, controller, b.profiles.of(controller, fmt.Sprintf("memory-%d", count))}
		if err := pass.signing(ctx, &result); err != nil {
			return err
		}
		return pass.restart(ctx, &result)
	})
	return result, err
}

// signing waits for the signatures on a watch: a client that lists all Tasks
// again and again would take CPU time from the controller.
func (p memoryPass) signing(ctx context.Context, result *memory) error {
	last, err := p.tracker.waitAll(ctx, result.Count)
	if err != nil {
		return err
	}
	pid, started, err := p.process(ctx)
	if err != nil {
		return err
	}
	result.StartToLast = inSeconds(last.Sub(started))
	if result.AfterSigning, err = readFootprint(pid); err != nil {
		return err
	}
	if err := p.profile.saveHeap(ctx, "signed"); err != nil {
		return err
	}
	p.log.Printf("%s: checking the signatures with Tekton's verifier", p.namespace)
	accepted, rejection, err := countAccepted(ctx, p.cluster.Tekton.TektonV1().Tasks(p.namespace).List, p.publicKey)
	if err != nil {
		return err
	}
	if rejection != nil {
		p.log.Printf("%s: Tekton accepts %d of %d signatures; first rejection: %v", p.namespace, accepted, result.Count, rejection)
	}
	result.Accepted = accepted
	atEnd, err := readFootprint(pid)
	result.AfterSigning.Peak = atEnd.Peak
	return err
}

// restart starts a second process where all Tasks are signed except for one. The
// signature of that Task shows that the process is the leader and signs.
func (p memoryPass) restart(ctx context.Context, result *memory) error {
	p.log.Printf("%s: restarting the controller", p.namespace)
	if err := p.controller.Stop(ctx); err != nil {
		return err
	}
	if err := p.create(ctx, p.namespace, "last"); err != nil {
		return err
	}
	if err := p.controller.Start(ctx); err != nil {
		return err
	}
	if _, err := p.tracker.waitTask(ctx, "last"); err != nil {
		return err
	}
	pid, started, err := p.process(ctx)
	if err != nil {
		return err
	}
	idle, err := waitIdle(ctx, pid)
	if err != nil {
		return err
	}
	result.LookedAtAll = inSeconds(idle.Sub(started))
	if result.AfterStart, err = readFootprint(pid); err != nil {
		return err
	}
	return p.profile.saveHeap(ctx, "restarted")
}

// process returns the ID and the start of the controller's current process.
func (p memoryPass) process(ctx context.Context) (pid int, started time.Time, err error) {
	part, err := p.cluster.Part(ctx, p.controller.Name)
	if err != nil {
		return 0, time.Time{}, err
	}
	started, err = processStart(part.PID)
	return part.PID, started, err
}

func readFootprint(pid int) (footprint, error) {
	var f footprint
	for entry, value := range map[string]*mebibytes{"VmRSS": &f.Resident, "RssAnon": &f.Anonymous, "VmHWM": &f.Peak} {
		bytes, err := harness.ProcessMemory(pid, entry)
		if err != nil {
			return f, err
		}
		*value = inMebibytes(bytes)
	}
	return f, nil
}
