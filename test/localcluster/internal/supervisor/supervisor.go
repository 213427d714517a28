// SPDX-License-Identifier: Apache-2.0

// Package supervisor manages the parts of a cluster: it starts and stops them, and serves an HTTP API on the
// loopback interface with which other processes do the same.
package supervisor

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/proc"
)

var (
	// ErrUnknownPart means that no part has the name.
	ErrUnknownPart = errors.New("no such part")
	// ErrRefused means that the request is invalid, such as removing a part of the cluster itself.
	ErrRefused = errors.New("refused")
)

var partName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// Supervisor owns the child processes. Its methods are safe for concurrent use.
type Supervisor struct {
	forker *proc.Forker
	// changed is called after a part has changed. unexpected is called when a part has ended without a request.
	changed    func()
	unexpected func(proc.Status)

	mu    sync.Mutex
	parts []part // in order of start
}

type part struct {
	*proc.Process
	name  string
	added bool // added by Add, not by Run
}

// New returns a Supervisor without parts. It calls both functions from any goroutine.
func New(changed func(), unexpected func(proc.Status)) *Supervisor {
	return &Supervisor{forker: proc.NewForker(), changed: changed, unexpected: unexpected}
}

// Run starts a part of the cluster itself and waits until it is healthy.
func (s *Supervisor) Run(ctx context.Context, spec proc.Spec) error { return s.run(ctx, spec, false) }

// Add is Run for a part that can be removed again. If the part does not become healthy, Add removes it.
func (s *Supervisor) Add(ctx context.Context, spec proc.Spec) error {
	if !partName.MatchString(spec.Name) {
		return fmt.Errorf("%w: part name %q: use lower-case letters, digits and dashes", ErrRefused, spec.Name)
	}
	err := s.run(ctx, spec, true)
	if err != nil && !errors.Is(err, ErrRefused) {
		// The caller's context may have ended. The process must be stopped nevertheless.
		return errors.Join(err, s.Remove(context.WithoutCancel(ctx), spec.Name))
	}
	return err
}

func (s *Supervisor) run(ctx context.Context, spec proc.Spec, added bool) error {
	s.mu.Lock()
	if s.find(spec.Name) >= 0 {
		s.mu.Unlock()
		return fmt.Errorf("%w: part %s exists already: remove it first, or choose another name", ErrRefused, spec.Name)
	}
	p := proc.New(s.forker, spec, func(status proc.Status) {
		s.unexpected(status)
		s.changed()
	})
	s.parts = append(s.parts, part{Process: p, name: spec.Name, added: added})
	s.mu.Unlock()
	defer s.changed()
	return p.Start(ctx)
}

// Remove stops an added part and removes it.
func (s *Supervisor) Remove(ctx context.Context, name string) error {
	p, err := s.part(name)
	if err != nil {
		return err
	}
	if !p.added {
		return fmt.Errorf("%w: %s belongs to the cluster and cannot be removed: stop it instead", ErrRefused, name)
	}
	return s.remove(ctx, p)
}

// Forget stops a part of the cluster itself and removes it, so that Run can start it with another Spec.
func (s *Supervisor) Forget(ctx context.Context, name string) error {
	p, err := s.part(name)
	if err != nil {
		return err
	}
	if err := s.remove(ctx, p); !errors.Is(err, proc.ErrKilled) {
		return err
	}
	return nil
}

func (s *Supervisor) remove(ctx context.Context, p part) error {
	err := p.Stop(ctx)
	s.mu.Lock()
	s.parts = slices.DeleteFunc(s.parts, func(q part) bool { return q.Process == p.Process })
	s.mu.Unlock()
	s.changed()
	return err
}

// Do runs the action start, stop, kill or restart on a part.
func (s *Supervisor) Do(ctx context.Context, name, action string) error {
	p, err := s.part(name)
	if err != nil {
		return err
	}
	defer s.changed()
	switch action {
	case "start":
		return p.Start(ctx)
	case "stop":
		return p.Stop(ctx)
	case "kill":
		p.Kill()
		return nil
	case "restart":
		if err := p.Stop(ctx); err != nil && !errors.Is(err, proc.ErrKilled) {
			return err
		}
		return p.Start(ctx)
	default:
		return fmt.Errorf("%w: unknown action %q: use start, stop, kill or restart", ErrRefused, action)
	}
}

// StopAll stops the parts in reverse order of start. It kills a part that has not ended after SIGTERM and the grace
// period.
func (s *Supervisor) StopAll(ctx context.Context, grace time.Duration) {
	s.mu.Lock()
	parts := slices.Clone(s.parts)
	s.mu.Unlock()
	for _, p := range slices.Backward(parts) {
		ctx, cancel := context.WithTimeout(ctx, grace)
		_ = p.Stop(ctx) // an error only means that the part was killed
		cancel()
	}
}

// Status lists all parts in order of start.
func (s *Supervisor) Status() []proc.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]proc.Status, len(s.parts))
	for i, p := range s.parts {
		all[i] = p.Status()
	}
	return all
}

func (s *Supervisor) part(name string) (part, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.find(name); i >= 0 {
		return s.parts[i], nil
	}
	names := make([]string, len(s.parts))
	for i, p := range s.parts {
		names[i] = p.name
	}
	return part{}, fmt.Errorf("%w: %q; the parts are %q", ErrUnknownPart, name, names)
}

// find returns the index of a part or -1. The caller holds s.mu.
func (s *Supervisor) find(name string) int {
	return slices.IndexFunc(s.parts, func(p part) bool { return p.name == name })
}
