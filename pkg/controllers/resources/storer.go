package resources

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/decision"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/store/oci"
)

// Storer keeps the resources of one kind in the registry, signed.
type Storer struct {
	*base

	store func() *oci.Store

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
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	switch err := s.put(ctx, key, store, obj); {
	case errors.Is(err, errElsewhere):
		return controller.NewSkipKey(key)
	case err != nil:
		return s.conclude(ctx, key, obj, err)
	}
	return controller.NewSkipKey(key) // it has its own log line
}

// storeTimeout bounds one resource, however slow the registry is.
const storeTimeout = time.Minute

// errElsewhere says that the resource is still to be signed in the cluster,
// which tells what is wrong with that, and brings it back.
var errElsewhere = errors.New("not signed in the cluster yet")

func (s *Storer) put(ctx context.Context, key string, store *oci.Store, obj resource.Object) error {
	as := stored{store: store, uid: obj.GetUID(), resourceVersion: obj.GetResourceVersion()}
	if active, err := s.ring().Active(s.config().Signer(s.kind)); err == nil {
		as.keyID = active.ID
	}
	if s.knows(key, as) {
		return nil
	}
	annotated := s.config().Stores(s.kind, config.StorageTekton)
	plan, err := s.plan(ctx, obj)
	switch {
	case annotated && errors.Is(err, decision.ErrUndecided):
		return err // what is decided then may be to leave it as it is
	case annotated && (err != nil || plan.Reason != decision.NotNeeded):
		return errElsewhere
	case err != nil:
		return err
	}
	var signature []byte // none: the store has one or makes one
	if plan.Reason == decision.NotNeeded {
		if signature, err = resource.Signature(obj); err != nil {
			return err
		}
	}
	there, err := store.Put(ctx, obj, signature, plan.Key)
	if errors.Is(err, keys.ErrSigner) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errStoring, err)
	}
	as.keyID = plan.Key.ID
	s.remember(key, as)
	s.tell(ctx, obj, there, plan.Key)
	return nil
}

func (s *Storer) tell(ctx context.Context, obj resource.Object, there oci.PutResult, key *keys.Key) {
	s.metrics.Stored(ctx, s.kind, there.Uploaded)
	if !there.Uploaded {
		return // it was told when it was
	}
	s.events.Record(ctx, reference(s.kind, obj), observe.Normal(ReasonStored, fmt.Sprintf("Stored as %s, signed with key %s", there.Reference, key.ID)))
	logging.FromContext(ctx).Infow("Resource stored", append(s.describe(obj), "reference", there.Reference, "tag", there.Tag, "keyId", key.ID)...)
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
