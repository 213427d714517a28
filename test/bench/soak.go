// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"

	"github.com/trusted-resources/chains-extension/test/fixtures"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// The soak fails beyond these limits.
const (
	soakP99       = time.Second // from the API server's answer to the signature
	soakGrowth    = 0.10        // of the resident memory after soakWarmUp
	soakWarmUp    = 10 * time.Minute
	soakInterval  = 30 * time.Second // between two samples of the memory, and two lines of progress
	hostileNumber = 4
)

// errSoak means that the soak ran to its end and found a fault.
var errSoak = errors.New("the soak failed")

// soak is one honest tenant beside hostile ones, all with the rights of the
// ClusterRole "edit" in their own namespaces.
type soak struct {
	Duration seconds `json:"durationSeconds"`
	Honest   honest  `json:"honest"`
	// Hostile has the number of actions of all hostile tenants, by name.
	Hostile []actionCount `json:"hostile"`
	// Memory has a sample of the controller for each soakInterval.
	Memory []memorySample `json:"memory"`
	// Growth is the growth of the resident memory after soakWarmUp, as a share. It is
	// nil if the soak was too short to tell.
	Growth *float64 `json:"growth,omitempty"`
	// Unanswered are connections of the controller to servers that never answer.
	Unanswered unanswered `json:"unanswered"`
	// Restarts is the number of times that the controller's process ended. The harness
	// ends a controller that needs more memory than its Deployment allows.
	Restarts int `json:"restarts"`
	// Cores is the mean number of cores that each process used. The API server shares
	// the machine with the controller: if all cores are busy, the API server and not
	// the controller decides how long a signature takes.
	Cores map[string]float64 `json:"cores"`
	// Faults says what was wrong. It is empty if the soak passed.
	Faults []string `json:"faults"`
}

// unanswered counts connections.
type unanswered struct {
	Registry int `json:"registry"`
	KMS      int `json:"kms"`
}

// measureSoak runs the tenants for the time that the options say.
func (b *bench) measureSoak(ctx context.Context, o options) (*soak, error) {
	servers, err := startHanging(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = servers.stop() }() // the result is complete without them
	if err := b.cluster.Configure(ctx, soakConfig(o.settings, servers)); err != nil {
		return nil, err
	}
	controller, err := b.cluster.AddControllerIn(ctx, soakEnvironment(), "controller", b.secretsDir)
	if err != nil {
		return nil, err
	}
	result, err := b.soakWith(ctx, o, servers, controller)
	if removeErr := controller.Remove(context.WithoutCancel(ctx)); err == nil && result.Restarts == 0 {
		err = removeErr
	}
	return result, err
}

func (b *bench) soakWith(ctx context.Context, o options, servers hangingServers, controller *harness.Controller) (*soak, error) {
	good, err := b.newHonest(ctx, o)
	if err != nil {
		return nil, err
	}
	bad := make([]*hostile, hostileNumber)
	for i := range bad {
		if bad[i], err = b.newHostile(ctx, i, o, servers.kms); err != nil {
			return nil, err
		}
	}
	if err := good.first(ctx); err != nil {
		return nil, err
	}
	watched, err := b.newSampler(ctx, controller)
	if err != nil {
		return nil, err
	}
	b.log.Printf("soak: %d hostile tenants and an honest one for %v", len(bad), o.duration)
	running, stop := context.WithTimeout(ctx, o.duration)
	defer stop()
	group, running := errgroup.WithContext(running)
	group.Go(func() error { return good.run(running) })
	group.Go(func() error { return b.swapKeys(running, o.pace) })
	for _, tenant := range bad {
		group.Go(func() error { return tenant.run(running) })
	}
	group.Go(func() error { return watched.run(running, good, bad) })
	if err := group.Wait(); err != nil {
		return nil, err
	}
	result := watched.conclude(o, good, bad)
	result.Unanswered = unanswered{Registry: servers.registry.Accepted(), KMS: servers.kms.Accepted()}
	return result, ctx.Err()
}

// soakConfig has the settings of chains-config: signatures, provenance with the
// verification status, a registry that hangs, and a KMS that hangs and that policies
// may name.
func soakConfig(more map[string]string, servers hangingServers) map[string]string {
	settings := harness.SignAll()
	maps.Copy(settings, map[string]string{
		"artifacts.taskrun.format":            "slsa/v2alpha4",
		"artifacts.taskrun.storage":           "tekton",
		"artifacts.pipelinerun.format":        "slsa/v2alpha4",
		"artifacts.pipelinerun.storage":       "tekton",
		"artifacts.oci.signer":                "none",
		"trustedresources.provenance.enabled": "true",
		"trustedresources.oci.repository":     servers.registry.Host() + "/tekton",
		"trustedresources.policies.kms":       "awskms://" + servers.kms.Host() + "/",
		"storage.oci.repository.insecure":     "true",
	})
	for key, value := range more {
		settings[key] = strings.ReplaceAll(value, kmsPlaceholder, servers.kms.Host())
	}
	return settings
}

// soakEnvironment has an identity without which the client of the KMS would look for
// one on the network.
func soakEnvironment() []string {
	return []string{"AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=none", "AWS_SECRET_ACCESS_KEY=none", "AWS_EC2_METADATA_DISABLED=true"}
}

// Every swapEvery, the key is garbage for swapFor.
const (
	swapEvery = 3 * time.Minute
	swapFor   = 10 * time.Second
)

// swapKeys replaces the signing key by garbage, and puts it back, until the context
// ends. The tenants cannot do this: it is a fault of an operator.
func (b *bench) swapKeys(ctx context.Context, pace float64) error {
	garbage := fixtures.Secret{fixtures.X509Key: []byte("garbage")}
	for {
		if !waitFor(ctx, time.Duration(pace*float64(swapEvery))) {
			return nil
		}
		b.log.Print("soak: the signing key is garbage now")
		if err := garbage.Write(b.secretsDir); err != nil {
			return err
		}
		waitFor(ctx, swapFor)
		if err := b.secret.Write(b.secretsDir); err != nil {
			return err
		}
	}
}

// waitFor reports whether the time passed before the context ended.
func waitFor(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// as returns the configuration of a client with the identity of a user.
func (b *bench) as(user string) *rest.Config {
	config := rest.CopyConfig(b.cluster.Admin)
	config.Impersonate = rest.ImpersonationConfig{UserName: user}
	return config
}

func (s *soak) fault(format string, args ...any) {
	s.Faults = append(s.Faults, fmt.Sprintf(format, args...))
}
