// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/tektoncd/chains/pkg/chains/signing"
	"github.com/tektoncd/chains/pkg/chains/signing/kms"
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

// Settings say which types of signer to load, and how to reach the KMS.
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
	attempts map[string]attempt // by signer type, and retiredKeys
	problems map[string]error   // as attempts
}

// attempt is the last attempt to load the key of a signer.
type attempt struct {
	inputs  string // digest of the inputs: files, settings, credentials
	err     error
	retryAt time.Time // zero: try again only when the inputs change
}

// retiredKeys is the entry of the retired keys in attempts and problems.
const retiredKeys = "retired keys"

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
	}
	l.ring.Store(&Ring{})
	return l
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
	previous := l.ring.Load()
	active, activeChanged := l.loadActive(ctx, previous, contents, err)
	retired, retiredChanged := l.loadRetired(ctx, previous, contents, err)
	next := &Ring{active: active, retired: retired, problems: maps.Clone(l.problems)}
	next.retireKeysOf(previous)

	keysChanged := !sameKeys(previous, next)
	if !keysChanged && !activeChanged && !retiredChanged {
		return false
	}
	l.ring.Store(next)
	if keysChanged {
		active, retired := next.ids()
		logging.FromContext(ctx).Infow("Key ring loaded", "active", active, "retired", retired)
	}
	return true
}

// loadActive returns the active key of each signer type: the key that was just
// loaded, or else the previous key. readErr is the reason why contents are
// missing.
func (l *Loader) loadActive(ctx context.Context, previous *Ring, contents files, readErr error) (active map[string]*Key, changed bool) {
	active = map[string]*Key{}
	l.forgetUnused()
	for _, signerType := range l.settings.SignerTypes {
		key, signerChanged := (*Key)(nil), false
		if readErr != nil {
			signerChanged = l.setProblem(ctx, signerType, readErr)
		} else {
			key, signerChanged = l.loadSigner(ctx, signerType, contents)
		}
		if key = cmp.Or(key, previous.active[signerType]); key != nil {
			active[signerType] = key
		}
		changed = changed || signerChanged
	}
	return active, changed
}

// forgetUnused forgets the attempts of signer types that the settings no longer
// name. Their keys are not active, so they must be loaded when the settings name
// the signer type again.
func (l *Loader) forgetUnused() {
	for entry := range l.attempts {
		if entry != retiredKeys && !slices.Contains(l.settings.SignerTypes, entry) {
			delete(l.attempts, entry)
			delete(l.problems, entry)
		}
	}
}

// loadRetired adds the retired keys in the files to the retired keys of the
// previous ring.
func (l *Loader) loadRetired(ctx context.Context, previous *Ring, contents files, readErr error) (retired []*Key, changed bool) {
	inputs := contents.digest()
	if readErr != nil || l.attempts[retiredKeys].inputs == inputs {
		return previous.retired, false
	}
	l.attempts[retiredKeys] = attempt{inputs: inputs}
	keys, err := contents.retiredKeys(l.dir)
	return merge(previous.retired, keys...), l.setProblem(ctx, retiredKeys, err)
}

// loadSigner loads the key of a signer type when its inputs changed. The key is
// nil when nothing was loaded. changed reports whether there is a new key or
// another problem.
func (l *Loader) loadSigner(ctx context.Context, signerType string, contents files) (key *Key, changed bool) {
	inputs, err := l.inputs(signerType, contents)
	if err != nil {
		return nil, l.setProblem(ctx, signerType, err)
	}
	last := l.attempts[signerType]
	if last.inputs == inputs && (last.retryAt.IsZero() || time.Now().Before(last.retryAt)) {
		return nil, l.setProblem(ctx, signerType, last.err)
	}

	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	key, err = l.newSigningKey(ctx, signerType, contents)
	next := attempt{inputs: inputs, err: err}
	if err != nil && signerType == signing.TypeKMS {
		next.retryAt = time.Now().Add(retryInterval)
	}
	l.attempts[signerType] = next
	changed = l.setProblem(ctx, signerType, err)
	return key, changed || key != nil
}

func (l *Loader) newSigningKey(ctx context.Context, signerType string, contents files) (*Key, error) {
	switch signerType {
	case signing.TypeX509:
		return contents.signingKey(ctx, l.dir)
	case signing.TypeKMS:
		key, err := l.kmsKey(ctx, l.settings.KMS)
		if err != nil {
			return nil, fmt.Errorf("KMS key %q: %w", l.settings.KMS.KMSRef, err)
		}
		return key, nil
	default:
		return nil, fmt.Errorf("unknown type of signer %q", signerType)
	}
}

func (l *Loader) kmsKey(ctx context.Context, settings chainsconfig.KMSSigner) (*Key, error) {
	client, err := Call(ctx, l.connects, settings.KMSRef, func(ctx context.Context) (signature.SignerVerifier, error) {
		return kms.NewSigner(ctx, settings)
	})
	if err != nil {
		return nil, err
	}
	return newSigningKey(ctx, NewKMSClient(client, settings.KMSRef, l.calls))
}

// inputs returns a value that changes when the key of a signer type must be
// loaded again.
func (l *Loader) inputs(signerType string, contents files) (string, error) {
	if signerType != signing.TypeKMS {
		return contents.digest(), nil
	}
	settings := fmt.Sprintf("%#v", l.settings.KMS)
	if l.settings.KMS.Auth.TokenPath == "" {
		return settings, nil
	}
	token, err := readBounded(l.settings.KMS.Auth.TokenPath)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	return settings + string(token), nil
}

// setProblem replaces the problem of an entry; nil means that there is none. It
// reports whether the problem changed, and logs a problem that did.
func (l *Loader) setProblem(ctx context.Context, entry string, err error) (changed bool) {
	previous := l.problems[entry]
	if (previous == nil) == (err == nil) && (err == nil || previous.Error() == err.Error()) {
		return false
	}
	if err == nil {
		delete(l.problems, entry)
		return true
	}
	l.problems[entry] = err
	if key := l.ring.Load().active[entry]; key != nil {
		logging.FromContext(ctx).Errorw("Signing key not usable, the last good one stays in use",
			"signer", entry, "keyId", key.ID, zap.Error(err))
	} else {
		logging.FromContext(ctx).Errorw("Signing key not usable", "signer", entry, zap.Error(err))
	}
	return true
}
