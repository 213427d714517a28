// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/tektoncd/chains/pkg/chains/signing"
	chainsconfig "github.com/tektoncd/chains/pkg/config"
	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/util/wait"
	"knative.dev/pkg/logging"
)

const (
	// pollInterval is the time between two reads of the files. The kubelet takes
	// up to a minute to update a mounted Secret, so polling adds little, and
	// polling works on every file system.
	pollInterval = 2 * time.Second
	// retryInterval is the time between two attempts to load a key of a KMS after
	// a failure.
	retryInterval = 15 * time.Second
	// loadTimeout bounds the loading of one signer, with all calls to a KMS.
	loadTimeout = 10 * time.Second
	// signTimeout bounds one call to a KMS.
	signTimeout = time.Minute
	// maxConnecting bounds how many KMS clients are being made at the same time.
	maxConnecting = 4
	// maxSigning bounds the calls to one key of a KMS at the same time.
	maxSigning = 64
)

// Settings say which types of signer sign resources, and how to reach the KMS.
type Settings struct {
	SignerTypes []string
	KMS         chainsconfig.KMSSigner
}

// Loader loads the key ring, and loads it again when the files or the settings
// change. When new files or settings are not usable, the Loader logs the problem
// and keeps the last good key active.
type Loader struct {
	dir      string
	onChange func()
	// connects bounds the making of KMS clients, calls the use of these clients.
	connects *CallLimiter
	calls    *CallLimiter

	ring atomic.Pointer[Ring]

	mu       sync.Mutex // serialises loading; guards the fields below
	settings Settings
	attempts map[string]attempt // by signer type
	problems map[string]error   // by signer type, and retiredKeys and revokedKeys

	// The last good keys. What the files say of public keys is never older than the
	// files: after a restart, nothing else would be known.
	fileSigner       signature.SignerVerifier
	fileSignerID     string
	keys             map[string]*Key // by signer type
	retired, revoked []*Key
	revokedErr       error
}

// attempt is the last attempt to load the key of a signer.
type attempt struct {
	inputs string // digest of the inputs: files, settings, credentials
	err    error
	// signerErr is the part of err that concerns runs, too.
	signerErr error
	retryAt   time.Time // zero: try again only when the inputs change
}

// The entries of public keys in problems.
const (
	retiredKeys = "retired keys"
	revokedKeys = "revoked keys"
)

// NewLoader returns a Loader for the signing secret in dir. The Loader calls
// onChange when the keys, or the problems that make keys unusable, changed.
// onChange must not call Run or Configure.
func NewLoader(dir string, onChange func()) *Loader {
	l := &Loader{
		dir: dir, onChange: onChange,
		connects: NewCallLimiter(loadTimeout, maxConnecting),
		calls:    NewCallLimiter(signTimeout, maxSigning),
		attempts: map[string]attempt{},
		problems: map[string]error{},
		keys:     map[string]*Key{},
	}
	l.ring.Store(&Ring{})
	return l
}

// OnRequest makes the Loader tell an observer of each request to a KMS. Call OnRequest before
// Run and Configure.
func (l *Loader) OnRequest(observe Observer) {
	l.connects.OnRequest(observe)
	l.calls.OnRequest(observe)
}

// Load loads the key ring of the signing secret in dir once, for commands and
// tests that do not follow changes.
func Load(ctx context.Context, dir string, settings Settings) *Ring {
	l := NewLoader(dir, func() {})
	l.Configure(ctx, settings)
	return l.Ring()
}

// Ring returns the current key ring. It does not wait for keys to load.
func (l *Loader) Ring() *Ring { return l.ring.Load() }

// Run loads changed files until the context ends.
func (l *Loader) Run(ctx context.Context) {
	wait.UntilWithContext(ctx, l.reload, pollInterval)
}

// Configure replaces the settings and loads the keys before it returns.
func (l *Loader) Configure(ctx context.Context, settings Settings) {
	l.mu.Lock()
	l.settings = settings
	l.mu.Unlock()
	l.reload(ctx)
}

// Invalidate makes the next read load the key of a signer type again, even when
// its inputs did not change. Call Invalidate when a signature of a KMS does not
// verify: the KMS may have rotated the key.
func (l *Loader) Invalidate(signerType string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.attempts, signerType)
}

func (l *Loader) reload(ctx context.Context) {
	if l.load(ctx) {
		l.onChange()
	}
}

// load updates the ring and reports whether a key or a problem changed.
func (l *Loader) load(ctx context.Context) (changed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	contents, err := readFiles(l.dir)
	changed = l.loadFiles(ctx, contents, err)
	changed = l.loadKMS(ctx) || changed

	previous, next := l.ring.Load(), l.newRing()
	for _, signerType := range []string{signing.TypeX509, signing.TypeKMS} {
		changed = l.setProblem(ctx, signerType, l.problemOf(signerType, next), next.active[signerType]) || changed
	}
	next.problems = maps.Clone(l.problems)
	l.ring.Store(next)
	if sameKeys(previous, next) {
		return changed
	}
	active, retired, revoked := next.ids()
	logging.FromContext(ctx).Infow("Key ring loaded", "active", active, "retired", retired, "revoked", revoked)
	return true
}

// uses reports whether a signer type signs resources.
func (l *Loader) uses(signerType string) bool {
	return slices.Contains(l.settings.SignerTypes, signerType)
}

// newRing returns the ring of the last good keys without those that must not sign.
func (l *Loader) newRing() *Ring {
	r := &Ring{active: map[string]*Key{}, revoked: l.revoked, revokedErr: l.revokedErr}
	for signerType, key := range l.keys {
		if l.uses(signerType) && r.mayUse(key.ID) == nil {
			r.active[signerType] = key
		}
	}
	r.fileErr = l.attempts[signing.TypeX509].signerErr
	if l.fileSigner != nil {
		if err := r.mayUse(l.fileSignerID); err != nil {
			r.fileErr = err
		} else {
			r.fileSigner = l.fileSigner
		}
	}
	r.retired = without(without(l.retired, l.revoked), slices.Collect(maps.Values(r.active)))
	return r
}

// problemOf returns why the newest key of a signer type does not sign, or nil.
func (l *Loader) problemOf(signerType string, r *Ring) error {
	if !l.uses(signerType) {
		// A file that is not there is no problem for those who sign with none.
		if err := l.attempts[signerType].signerErr; !errors.Is(err, ErrNotSet) {
			return err
		}
		return nil
	}
	err := l.attempts[signerType].err
	key := l.keys[signerType]
	if key == nil || r.mayUse(key.ID) == nil {
		return err
	}
	if err == nil {
		return r.mayUse(key.ID)
	}
	return fmt.Errorf("%w; the last good key cannot stay in use: %w", err, r.mayUse(key.ID))
}

// setProblem replaces the problem of an entry; nil means that there is none. It
// reports whether the problem changed, and logs a problem that did. inUse is the
// key that signs nevertheless.
func (l *Loader) setProblem(ctx context.Context, entry string, err error, inUse *Key) (changed bool) {
	previous := l.problems[entry]
	if (previous == nil) == (err == nil) && (err == nil || previous.Error() == err.Error()) {
		return false
	}
	if err == nil {
		delete(l.problems, entry)
		return true
	}
	l.problems[entry] = err
	if inUse != nil {
		logging.FromContext(ctx).Errorw("Signing key not usable, the last good one stays in use",
			"signer", entry, "keyId", inUse.ID, zap.Error(err))
	} else {
		logging.FromContext(ctx).Errorw("Signing key not usable", "signer", entry, zap.Error(err))
	}
	return true
}
