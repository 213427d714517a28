package resources

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
	"github.com/trusted-resources/chains-extension/pkg/metrics"
	"github.com/trusted-resources/chains-extension/pkg/reconciler/events"
	"github.com/trusted-resources/chains-extension/pkg/registry"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/signing"
	"github.com/trusted-resources/chains-extension/pkg/storage/oci"
)

// Storer keeps the resources of one kind in the registry, signed.
type Storer struct {
	*watched

	store       func() *oci.Store
	ring        func() *keyring.Ring
	distrust    func(signerType string)
	authorities signing.Authorities
	events      eventRecorder
	metrics     *metrics.Recorder

	mu sync.Mutex
	// known is what is in the registry, so that it is asked once only.
	known map[string]stored
}

// stored is what made a resource what it is in the registry.
type stored struct {
	store           *oci.Store
	uid             types.UID
	resourceVersion string
	keyID           string
}

var _ controller.Reconciler = (*Storer)(nil)

// Reconcile stores the resource with this key ("namespace/name") if need be.
func (s *Storer) Reconcile(ctx context.Context, key string) error {
	obj, err := s.get(key)
	if err != nil {
		return controller.NewPermanentError(err)
	}
	store := s.store()
	if obj == nil || store == nil || !s.config().Stores(s.kind, config.StorageOCI) {
		s.forget(key)
		return controller.NewSkipKey(key)
	}
	signer, err := s.ring().Active(s.config().Signer(s.kind))
	if err != nil {
		return controller.NewSkipKey(key) // signing tells, and a new key brings it back
	}
	as := stored{store, obj.GetUID(), obj.GetResourceVersion(), signer.ID}
	if s.knows(key, as) {
		return controller.NewSkipKey(key)
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	there, err := s.put(ctx, store, obj, signer)
	switch {
	case errors.Is(err, errNotSigned):
		return controller.NewSkipKey(key)
	case err != nil:
		return s.failed(ctx, obj, err)
	}
	s.remember(key, as)
	s.tell(ctx, obj, there)
	return controller.NewSkipKey(key) // it has its own log line
}

// storeTimeout bounds one resource, however slow the registry is.
const storeTimeout = time.Minute

// errNotSigned says that the resource is still to be signed where it is. That
// brings it back.
var errNotSigned = errors.New("not signed yet")

func (s *Storer) put(ctx context.Context, store *oci.Store, obj resource.Object, key *keyring.Key) (oci.Stored, error) {
	plan, err := signing.MakePlan(ctx, obj, s.config().Signer(s.kind), s.ring(), s.authorities)
	if err != nil {
		return oci.Stored{}, err
	}
	var signature []byte // none: the store has one or makes one
	if plan.Reason == signing.NotNeeded {
		if signature, err = resource.Signature(obj); err != nil {
			return oci.Stored{}, err
		}
	} else if s.config().Stores(s.kind, config.StorageTekton) {
		return oci.Stored{}, errNotSigned
	}
	there, err := store.Put(ctx, obj, signature, key)
	if errors.Is(err, keyring.ErrSelfVerification) {
		s.distrust(s.config().Signer(s.kind))
	}
	return there, err
}

// failed has it tried again, when the registry says or else with back-off.
func (s *Storer) failed(ctx context.Context, obj resource.Object, err error) error {
	s.metrics.NotStored(ctx, s.kind)
	s.events.Record(ctx, reference(s.kind, obj), events.Warning(ReasonNotStored, fmt.Sprintf("Not stored in the registry yet, it will be tried again: %v", err)))
	logging.FromContext(ctx).Warnw("Resource not stored yet", append(s.describe(obj), zap.Error(err))...)
	if busy, ok := errors.AsType[*registry.BusyError](err); ok {
		return controller.NewRequeueAfter(busy.After)
	}
	return err
}

func (s *Storer) tell(ctx context.Context, obj resource.Object, there oci.Stored) {
	s.metrics.Stored(ctx, s.kind, there.Uploaded)
	if !there.Uploaded {
		return // it was told when it was
	}
	s.events.Record(ctx, reference(s.kind, obj), events.Normal(ReasonStored, "Stored as "+there.Reference))
	logging.FromContext(ctx).Infow("Resource stored", append(s.describe(obj), "reference", there.Reference, "tag", there.Tag)...)
}

func (s *Storer) knows(key string, as stored) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[key] == as
}

func (s *Storer) remember(key string, as stored) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[key] = as
}

func (s *Storer) forget(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, key)
}
