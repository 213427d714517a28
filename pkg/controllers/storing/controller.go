// SPDX-License-Identifier: Apache-2.0

// Package storing has the controller that keeps signed Tasks, Pipelines and
// StepActions in a registry.
package storing

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"knative.dev/pkg/controller"

	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/controllers/informers"
	"github.com/trusted-resources/chains-extension/pkg/controllers/resources"
	"github.com/trusted-resources/chains-extension/pkg/controllers/state"
	"github.com/trusted-resources/chains-extension/pkg/decision"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/store/oci"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

const (
	// timeout bounds the work on one resource, however slow the registry is.
	timeout = time.Minute
	// firstRetry gives a registry time to recover.
	firstRetry = time.Second
)

// Objects reads resources from the API server. Object returns nil if there is no
// such resource.
type Objects interface {
	Object(ctx context.Context, kind resource.Kind, namespace, name string) (resource.Object, error)
}

// Store returns the place where bundles are stored, or nil if the configuration
// names none.
type Store func() *oci.Store

// Storer is the controller of one kind. It implements controller.Reconciler.
type Storer struct {
	*resources.Resources

	kind    resource.Kind
	state   *state.State
	objects Objects
	store   Store
	emitter resources.Emitter

	mu sync.Mutex
	// uploads are the inputs of the last upload of each resource. The registry is
	// asked once only for each of them.
	uploads map[string]upload
	// displaced are the digests of earlier bundles that have no signature of the active
	// key yet.
	displaced map[string]string
}

// upload has the inputs of an upload.
type upload struct {
	store           *oci.Store
	uid             types.UID
	resourceVersion string
	keyID           string
	dialect         tekton.Dialect
}

var _ controller.Reconciler = (*Storer)(nil)

// NewController returns the controller that stores the resources of one kind. It
// has a work queue of its own, so that a slow registry does not delay signatures.
func NewController(
	ctx context.Context, kind resource.Kind, s *state.State, watched *informers.Watched, emitter resources.Emitter, objects Objects, store Store,
) (*controller.Impl, error) {
	storer := &Storer{
		Resources: resources.New(watched.Summaries(kind, s.Scope())),
		kind:      kind, state: s, objects: objects, store: store, emitter: emitter,
		uploads: map[string]upload{}, displaced: map[string]string{},
	}
	return storer.NewController(ctx, &watched.Handlers, storer, resources.Queue{
		Name: "store-" + kind.ConfigName(), FirstRetry: firstRetry,
		Wanted: storer.wanted, Changes: s.OnChange,
	})
}

func (s *Storer) wanted() bool { return stores(s.state.Config(), s.kind) }

// stores reports whether resources of a kind are stored in a registry.
func stores(cfg *config.Config, kind resource.Kind) bool {
	return cfg.Signer(kind) != config.SignerNone && cfg.Stores(kind, config.StorageOCI) && cfg.Repository != ""
}

// Reconcile stores the resource with this key ("namespace/name") unless the
// registry has it.
func (s *Storer) Reconcile(ctx context.Context, key string) error {
	r, err := s.Get(key)
	if err != nil {
		return err
	}
	store := s.store()
	if r == nil || store == nil || !s.wanted() {
		s.forget(key)
		return controller.NewSkipKey(key)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	switch err := observe.Guard(func() error { return s.put(ctx, key, store, r) }); {
	case errors.Is(err, errNotSignedYet):
		return controller.NewSkipKey(key)
	case err != nil:
		if errors.Is(err, keys.ErrSigner) {
			s.state.InvalidateKey(s.kind)
		}
		return resources.Conclude(ctx, s.emitter, r, err)
	}
	return controller.NewSkipKey(key) // an upload has a log line of its own
}

// errNotSignedYet means that the annotation of the resource must be signed first.
// The signing controller reports what prevents that, and its write brings the
// resource back.
var errNotSignedYet = errors.New("not signed in the cluster yet")

// put stores the resource unless the inputs are those of its last upload.
func (s *Storer) put(ctx context.Context, key string, store *oci.Store, r *resource.Summary) error {
	inputs := upload{store: store, uid: r.UID, resourceVersion: r.ResourceVersion, dialect: s.state.Dialect()}
	if active, err := s.state.ActiveKey(s.kind, r.Namespace); err == nil {
		inputs.keyID = active.ID
	}
	if s.uploaded(key, inputs) {
		return nil
	}
	d := s.state.Decide(ctx, r)
	if err := s.mayStore(d); err != nil {
		return err
	}
	if d.Key == nil {
		s.forget(key)
		return nil // the resource is not selected
	}
	object, err := s.read(ctx, r)
	if err != nil {
		return err
	}
	var signature []byte // nil: the store has a signature or makes one
	if d.Action == decision.Leave {
		signature = r.Signature
	}
	put, err := s.upload(ctx, store, r, object, signature, d)
	if err != nil {
		return err
	}
	s.emitter.Emit(ctx, observe.Stored{Resource: r, Reference: put.Reference, Tag: put.Tag, KeyID: d.Key.ID, Uploaded: put.Uploaded})
	if err := s.signDisplaced(ctx, key, store, r, d, put.Displaced); err != nil {
		return err
	}
	inputs.keyID, inputs.dialect = d.Key.ID, d.Dialect
	s.remember(key, inputs)
	return nil
}

// upload stores a resource in the registry.
func (s *Storer) upload(
	ctx context.Context, store *oci.Store, r *resource.Summary, object resource.Object, signature []byte, d decision.Decision,
) (oci.PutResult, error) {
	ctx, span := observe.StartSpanOf(ctx, observe.StepStore, r)
	defer span.End()
	put, err := store.Put(ctx, object, signature, d.Key, d.Dialect)
	if err != nil && !errors.Is(err, keys.ErrSigner) {
		err = fmt.Errorf("%w: %w", resources.ErrStoring, err)
	}
	return put, span.Failed(err)
}

// mayStore returns why a resource is not stored now. A resource whose annotation
// is signed, too, is stored after that.
func (s *Storer) mayStore(d decision.Decision) error {
	annotated := s.state.Config().Stores(s.kind, config.StorageTekton)
	switch {
	case annotated && d.Reason == decision.Undecided:
		return d.Err // the decision may become to leave the resource as it is
	case annotated && d.Action != decision.Leave:
		return errNotSignedYet
	}
	return d.Err
}

// read returns the resource in the state of the summary.
func (s *Storer) read(ctx context.Context, r *resource.Summary) (resource.Object, error) {
	object, err := s.objects.Object(ctx, s.kind, r.Namespace, r.Name)
	if err != nil {
		return nil, fmt.Errorf("reading %s %s/%s: %w", s.kind, r.Namespace, r.Name, err)
	}
	if object == nil || object.GetUID() != r.UID || object.GetResourceVersion() != r.ResourceVersion {
		return nil, errNotSignedYet // the watch delivers the newer state
	}
	return object, nil
}

func (s *Storer) uploaded(key string, inputs upload) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.uploads[key] == inputs
}

func (s *Storer) remember(key string, inputs upload) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uploads[key] = inputs
}

func (s *Storer) forget(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.uploads, key)
	delete(s.displaced, key)
}
