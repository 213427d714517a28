// SPDX-License-Identifier: Apache-2.0

package runs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/tektoncd/chains/pkg/chains"
	"github.com/tektoncd/chains/pkg/chains/objects"
	"github.com/tektoncd/chains/pkg/chains/storage"
	"github.com/tektoncd/chains/pkg/chains/storage/docdb"
	chainsconfig "github.com/tektoncd/chains/pkg/config"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/observe"
)

// errRefused means that Chains was not asked to sign a run.
var errRefused = errors.New("no usable signer")

// runSigner signs runs with checked keys, and with the storage backends of the last
// good configuration. It replaces Chains' signer as a whole when the backends
// change: Chains reads the backends of a signer without a lock.
type runSigner struct {
	kube    kubernetes.Interface
	signers Signers
	emitter Emitter
	guard   *guard
	current atomic.Pointer[chains.ObjectSigner]

	mu        sync.Mutex // guards the fields below, and changes of current
	stopWatch context.CancelFunc
}

var _ chains.Signer = (*runSigner)(nil)

// newRunSigner returns a signer without storage backends.
func newRunSigner(signer chains.ObjectSigner, kube kubernetes.Interface, signers Signers, emitter Emitter) *runSigner {
	s := &runSigner{kube: kube, signers: signers, emitter: emitter, guard: newGuard(emitter), stopWatch: func() {}}
	s.current.Store(&signer)
	return s
}

// Sign implements chains.Signer.
func (s *runSigner) Sign(ctx context.Context, obj objects.TektonObject) error {
	about, _ := describe(obj)
	ctx, span := observe.StartSpan(observe.InTraceOf(ctx, traceOf(obj)), observe.StepSign, about)
	defer span.End()
	return span.Failed(s.guard.do(ctx, about, func() error { return s.sign(ctx, about, obj) }))
}

// sign returns errRefused, and does not call Chains, if there is no usable signer:
// Chains would mark the run as signed.
func (s *runSigner) sign(ctx context.Context, about *corev1.ObjectReference, obj objects.TektonObject) error {
	all, unset, err := passes(ctx, chainsconfig.FromContext(ctx), s.signers, obj)
	if err != nil {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	if unset != nil {
		s.emitter.Emit(ctx, observe.RunNotSigned{Run: about, Reason: v1alpha1.ReasonRunNotSigned, Err: unset})
	}
	signer := *s.current.Load()
	last := len(all) - 1
	for _, first := range all[:last] {
		if err := signFirst(first.context(ctx), signer, obj); err != nil {
			return err
		}
	}
	return signer.Sign(all[last].context(ctx), obj)
}

// configure replaces the storage backends by those of a configuration. The last
// good backends stay in use if one of the new ones cannot be used.
func (s *runSigner) configure(ctx context.Context, cfg chainsconfig.Config) {
	logger := logging.FromContext(ctx)
	backends, err := storage.InitializeBackends(ctx, s.current.Load().Pipelineclientset, s.kube, cfg)
	if err != nil {
		logger.Errorw("A storage backend in chains-config cannot be used, the backends of the last good configuration stay in use", zap.Error(err))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopWatch()
	watchCtx, stop := context.WithCancel(ctx)
	s.stopWatch = stop
	s.replaceBackends(traced(backends))
	if err := s.watchDocDB(watchCtx, backends, cfg); err != nil {
		logger.Errorw("The connection of storage backend docdb cannot be watched, so a change of its URL has no effect", zap.Error(err))
	}
}

// replaceBackends is called with the lock held.
func (s *runSigner) replaceBackends(backends map[string]storage.Backend) {
	signer := *s.current.Load()
	signer.Backends = backends
	s.current.Store(&signer)
}

// watchDocDB follows the file with the URL of docdb until the context ends. It
// stands in for storage.WatchBackends, which writes to the map of backends without
// a lock. docdb is the only backend that Chains watches.
func (s *runSigner) watchDocDB(ctx context.Context, backends map[string]storage.Backend, cfg chainsconfig.Config) error {
	if _, used := backends[docdb.StorageTypeDocDB]; !used {
		return nil
	}
	stop := make(chan bool)
	changes, err := docdb.WatchBackend(ctx, cfg, stop)
	if errors.Is(err, docdb.ErrNothingToWatch) {
		return nil
	}
	if err != nil {
		close(stop)
		return err
	}
	go func() {
		defer close(stop)
		for {
			select {
			case <-ctx.Done():
				return
			case changed := <-changes:
				s.replaceDocDB(ctx, changed)
			}
		}
	}()
	return nil
}

// replaceDocDB replaces the backend docdb. The last good one stays in use if there
// is no new one.
func (s *runSigner) replaceDocDB(ctx context.Context, changed *docdb.Backend) {
	if changed == nil {
		logging.FromContext(ctx).Errorw("Storage backend docdb cannot be used with its new URL, the last good connection stays in use")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return // a newer configuration has replaced all backends
	}
	backends := maps.Clone(s.current.Load().Backends)
	backends[docdb.StorageTypeDocDB] = tracedBackend{changed}
	s.replaceBackends(backends)
}
