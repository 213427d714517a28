// SPDX-License-Identifier: Apache-2.0

// Package signing has the controller that writes signatures into the annotation
// of Tasks, Pipelines and StepActions.
package signing

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/utils/clock"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/reconciler"

	"github.com/trusted-resources/chains-extension/pkg/audit"
	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/controllers/informers"
	"github.com/trusted-resources/chains-extension/pkg/controllers/resources"
	"github.com/trusted-resources/chains-extension/pkg/controllers/state"
	"github.com/trusted-resources/chains-extension/pkg/decision"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/store/annotation"
)

const (
	// timeout bounds the work on one resource, with all calls to a KMS and to the API
	// server.
	timeout = time.Minute
	// firstRetry is short: the API server recovers soon.
	firstRetry        = 100 * time.Millisecond
	firstDisputeDelay = time.Second
	maxDisputeDelay   = 5 * time.Minute
)

// Inputs are what the controllers work with.
type Inputs struct {
	State   *state.State
	Watched *informers.Watched
	Emitter Emitter
	// Measure registers a function that returns the values of gauges.
	Measure func(read func() []observe.Measurement)
	Patcher annotation.Patcher
	// Enforced reports whether an unverified resource would be refused in a namespace.
	Enforced func(namespace string) bool
	// Replaced is called after a write that replaced the signature of a resource in one
	// resourceVersion, and made another.
	Replaced func(uid types.UID, from, to string)
}

// Emitter emits facts.
type Emitter interface {
	resources.Emitter
	// Announce reports a fact that is about to happen. After an error it must not happen.
	Announce(ctx context.Context, f observe.Fact) error
}

var _ Emitter = (*observe.Emitter)(nil)

// Signer is the controller of one kind. It implements controller.Reconciler.
type Signer struct {
	*resources.Resources

	kind    resource.Kind
	state   *state.State
	decide  func(context.Context, *resource.Summary) decision.Decision
	patcher annotation.Patcher
	emitter Emitter
	// replaced is Inputs.Replaced.
	replaced func(uid types.UID, from, to string)
	// disputes delays signing resources that another writer changes each time that
	// they are signed. Without a delay the two would write for ever.
	disputes *flowcontrol.Backoff
	writes   *writes
	contents *contents
	ledger   *ledger
	// enforced is Inputs.Enforced.
	enforced func(namespace string) bool
}

var _ controller.Reconciler = (*Signer)(nil)

// NewController returns the controller that signs the resources of one kind.
func NewController(ctx context.Context, kind resource.Kind, in Inputs) (*controller.Impl, error) {
	s := in.State
	signer := &Signer{
		Resources: resources.New(in.Watched.Summaries(kind, s.Scope())),
		kind:      kind, state: s, decide: s.Decide, emitter: in.Emitter, patcher: in.Patcher, replaced: in.Replaced,
		disputes: flowcontrol.NewBackOff(firstDisputeDelay, maxDisputeDelay),
		writes:   newWrites(),
		contents: newContents(clock.RealClock{}),
		ledger:   newLedger(clock.RealClock{}), enforced: in.Enforced,
	}
	in.Measure(signer.measure)
	enqueueAll := signer.PromoteFunc
	signer.PromoteFunc = func(bucket reconciler.Bucket, enqueue func(reconciler.Bucket, types.NamespacedName)) error {
		signer.contents.restart()
		signer.ledger.restart()
		return enqueueAll(bucket, enqueue)
	}
	return signer.NewController(ctx, &in.Watched.Handlers, signer, resources.Queue{
		Name: kind.ConfigName(), FirstRetry: firstRetry,
		Wanted: signer.wanted, Changes: s.OnChange,
	})
}

// wanted reports whether resources of this kind get a signature in their
// annotation.
func (s *Signer) wanted() bool {
	cfg := s.state.Config()
	return cfg.Signer(s.kind) != config.SignerNone && cfg.Stores(s.kind, config.StorageTekton)
}

// Reconcile signs the resource with this key ("namespace/name") if the decision
// is to sign.
func (s *Signer) Reconcile(ctx context.Context, key string) error {
	r, err := s.Get(key)
	if err != nil {
		return err
	}
	if r == nil || !s.wanted() {
		s.forget(key, r)
		return controller.NewSkipKey(key)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := observe.Guard(func() error { return s.reconcile(ctx, key, r) }); err != nil {
		if errors.Is(err, keys.ErrSigner) {
			s.state.InvalidateKey(s.kind)
		}
		concluded := resources.Conclude(ctx, s.emitter, r, err)
		if errors.Is(err, resources.ErrDisputed) {
			return controller.NewRequeueAfter(s.disputes.Get(key)) // no other change brings the resource back
		}
		return concluded
	}
	return controller.NewSkipKey(key) // a signature has a log line of its own
}

// forget drops what is known of a resource that does not exist (r is nil) or that
// is not signed any more.
func (s *Signer) forget(key string, r *resource.Summary) {
	s.writes.forget(key)
	s.ledger.forget(key)
	if r == nil {
		s.contents.gone(key)
		return
	}
	s.contents.forget(key)
}

// reconcile checks the state that a signature of this controller made, or signs
// the state that another writer made.
func (s *Signer) reconcile(ctx context.Context, key string, r *resource.Summary) error {
	written, ours := s.writes.take(key, r)
	if ours && !written.answered() {
		s.wrote(ctx, key, *written.fact, r.ResourceVersion)
		ours = written.made(r) // otherwise another writer has changed the resource since
	}
	if ours {
		if err := s.check(key, written, r); err != nil {
			return err
		}
	}
	// The key or the release of Tekton may have changed since the signature was made.
	return s.sign(ctx, key, r)
}

// sign decides and acts on the decision.
func (s *Signer) sign(ctx context.Context, key string, r *resource.Summary) error {
	d := s.decide(ctx, r)
	s.ledger.decided(key, r, d)
	s.noticeEarlier(ctx, key, r, d)
	if d.Action != decision.Sign {
		return d.Err
	}
	if now := s.disputes.Clock.Now(); s.disputes.IsInBackOffSinceUpdate(key, now) {
		return controller.NewRequeueAfter(s.disputes.Get(key))
	}
	fact := observe.Signed{
		Resource: r, Reason: d.Reason, KeyID: d.Key.ID, Dialect: d.Dialect,
		Attempt: observe.Attempt{ID: uuid.NewString(), RequestedBy: d.RequestedBy, PreviousKeyID: d.PreviousKeyID},
	}
	return s.attempt(ctx, key, fact, d)
}

// attempt signs a resource. Each attempt has an audit record before it, and one after it.
func (s *Signer) attempt(ctx context.Context, key string, fact observe.Signed, d decision.Decision) error {
	r, began := fact.Resource, time.Now()
	ctx, span := observe.StartSpanOf(ctx, observe.StepSign, r)
	defer span.End()
	span.Set("reason", string(d.Reason))
	failed := func(err error, sent bool) error {
		s.emitter.Emit(ctx, observe.AttemptFailed{Signed: fact, Err: err, Sent: sent})
		return span.Failed(observe.Recorded(err))
	}
	if err := s.emitter.Announce(ctx, observe.Signing(fact)); err != nil {
		return failed(err, false)
	}
	keyBegan := time.Now()
	signature, err := d.Key.Sign(ctx, r.Checksums.In(d.Dialect))
	if err != nil {
		return failed(err, false)
	}
	fact.KeyTook = time.Since(keyBegan)
	pending := fact // for an answer that gets lost
	sent := write{content: [sha256.Size]byte(r.Checksums.Content()), signature: signature, fact: &pending}
	s.writes.add(key, sent)
	patched, err := annotation.Put(audit.WithAttempt(ctx, fact.Attempt.ID), s.patcher, r, signature)
	if err != nil {
		return failed(err, true)
	}
	fact.Attempt.Took = time.Since(began)
	sent.resourceVersion, sent.fact = patched.GetResourceVersion(), nil
	if d.Reason != decision.Unsigned {
		s.replaced(r.UID, r.ResourceVersion, sent.resourceVersion)
	}
	s.writes.add(key, sent)
	s.wrote(ctx, key, fact, sent.resourceVersion)
	return nil
}

// wrote reports a signature that the API server has, in the state with this
// resourceVersion.
func (s *Signer) wrote(ctx context.Context, key string, fact observe.Signed, resourceVersion string) {
	s.contents.wrote(key, fact.Resource.Checksums.Content())
	s.ledger.signed(key, resourceVersion)
	signed := *fact.Resource
	signed.ResourceVersion = resourceVersion
	fact.Resource, fact.Took = &signed, time.Since(signed.Received)
	s.emitter.Emit(ctx, fact)
}

// noticeEarlier reports a content with a signature of this installation that this
// controller did not make for the present change: an earlier state that somebody
// restored.
func (s *Signer) noticeEarlier(ctx context.Context, key string, r *resource.Summary, d decision.Decision) {
	valid := d.Reason == decision.SignedByActiveKey || d.Reason == decision.SignedByAuthority ||
		d.Reason == decision.KeyRotated || d.Reason == decision.TektonChanged
	if !valid || !s.contents.found(key, r.Checksums.Content()) {
		return
	}
	if signer := decision.Signer(s.state.Keys(), r); signer != nil {
		s.emitter.Emit(ctx, observe.EarlierStateRestored{Resource: r, KeyID: signer.ID, Dialect: d.Dialect})
	}
}

// check returns ErrDisputed, and delays the next signature, if the API server
// stored something else than was signed.
func (s *Signer) check(key string, written write, r *resource.Summary) error {
	if written.made(r) {
		s.disputes.DeleteEntry(key)
		return nil
	}
	now := s.disputes.Clock.Now()
	s.disputes.Next(key, now)
	return fmt.Errorf("%w: signed content with checksum %x, stored was %x", resources.ErrDisputed, written.content, r.Checksums.Content())
}
