// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// cpuProfileSeconds is the length of one CPU profile. The server fixes the
// length at the start, so a pass of unknown length is recorded as a sequence of
// short profiles. "go tool pprof" adds up all files that it is given.
const cpuProfileSeconds = 2

// profiles is a directory of profiles.
type profiles struct{ dir *os.Root }

// enableProfiles makes the directory and enables profiling in every controller
// that starts afterwards.
func enableProfiles(ctx context.Context, kube kubernetes.Interface, dir string) (*profiles, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	patch, err := json.Marshal(map[string]any{"data": map[string]string{"runtime-profiling": "enabled"}})
	if err != nil {
		return nil, err
	}
	_, err = kube.CoreV1().ConfigMaps(harness.SystemNamespace).Patch(ctx,
		harness.ConfigObservability, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	return &profiles{root}, err
}

// of returns the profile of one controller. The names of its files begin with
// name. The profile of a nil *profiles is nil, and a nil profile saves nothing.
func (p *profiles) of(controller *harness.Controller, name string) *controllerProfile {
	if p == nil {
		return nil
	}
	return &controllerProfile{controller: controller, dir: p.dir, file: name}
}

// controllerProfile saves profiles of one controller process.
type controllerProfile struct {
	controller *harness.Controller
	dir        *os.Root
	file       string // the start of the name of each file
}

// saveHeap saves a heap profile. The file also has the allocations since the
// start of the process: "go tool pprof -sample_index=alloc_space".
func (p *controllerProfile) saveHeap(ctx context.Context, moment string) error {
	if p == nil {
		return nil
	}
	return p.save(ctx, "heap", p.file+"-"+moment+"-heap.pprof")
}

// recordCPU saves CPU profiles one after the other until stop is called. It drops
// the last profile, which is not complete at that time.
func (p *controllerProfile) recordCPU(ctx context.Context) (stop func() error) {
	if p == nil {
		return func() error { return nil }
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- p.saveCPUProfiles(ctx) }()
	return func() error {
		cancel()
		return <-ended
	}
}

func (p *controllerProfile) saveCPUProfiles(ctx context.Context) error {
	for i := 0; ctx.Err() == nil; i++ {
		err := p.save(ctx, fmt.Sprintf("profile?seconds=%d", cpuProfileSeconds), fmt.Sprintf("%s-cpu-%03d.pprof", p.file, i))
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// save writes the file only if the answer is complete.
func (p *controllerProfile) save(ctx context.Context, profile, file string) error {
	content, err := p.controller.Profile(ctx, profile)
	if err != nil {
		return err
	}
	return p.dir.WriteFile(file, content, 0o644)
}
