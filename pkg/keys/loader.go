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

	"github.com/tektoncd/chains/pkg/chains/signing"
	"github.com/tektoncd/chains/pkg/chains/signing/kms"
	chainsconfig "github.com/tektoncd/chains/pkg/config"
	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/util/wait"
	"knative.dev/pkg/logging"
)

const (
	// pollInterval is how often the files are read again. The kubelet takes up
	// to a minute to bring a changed Secret, so this adds next to nothing, and
	// it works on any file system.
	pollInterval = 2 * time.Second
	// retryInterval is how long a KMS that failed is left alone.
	retryInterval = 15 * time.Second
	// loadTimeout bounds the building of one signer, calls to a KMS included.
	loadTimeout = 10 * time.Second
	// maxLoading bounds the KMS loads that hang.
	maxLoading = 4
)

// Settings say which signers to keep, and how to reach the KMS.
type Settings struct {
	SignerTypes []string
	KMS         chainsconfig.KMSSigner
}

// Keeper loads the signers once, and again when their files or settings
// change. A change that cannot be used is reported, and the last good key
// stays in use.
type Keeper struct {
	dir      string
	onChange func()
	calls    patience // of a KMS that is being loaded

	ring atomic.Pointer[Ring]

	mu       sync.Mutex // serialises loading; guards all below
	settings Settings
	loaded   map[string]source
	problems map[string]error
}

// source says what a signer was last built from, whether that went well or not.
type source struct {
	fingerprint string
	err         error
	retryAt     time.Time // zero: only a change makes it worth another try
}

// retiredSource is the entry of loaded and problems for the retired keys.
const retiredSource = "retired keys"

// NewKeeper keeps the keys of the signing secret in dir. onChange is called
// whenever the keys, or the reasons for having none, have changed; it must not
// call the Keeper's Run or Configure.
func NewKeeper(dir string, onChange func()) *Keeper {
	k := &Keeper{dir: dir, onChange: onChange, calls: newPatience(maxLoading), loaded: map[string]source{}, problems: map[string]error{}}
	k.ring.Store(&Ring{})
	return k
}

// Load reads the keys of the signing secret in dir once, for who does not stay.
func Load(ctx context.Context, dir string, settings Settings) *Ring {
	k := NewKeeper(dir, func() {})
	k.Configure(ctx, settings)
	return k.Ring()
}

// Ring is the current state of the keys. It never waits for one to load.
func (k *Keeper) Ring() *Ring { return k.ring.Load() }

// Run looks for changed files until the context ends.
func (k *Keeper) Run(ctx context.Context) {
	wait.UntilWithContext(ctx, k.reload, pollInterval)
}

// Configure takes new settings and loads what they ask for before it returns.
func (k *Keeper) Configure(ctx context.Context, settings Settings) {
	k.mu.Lock()
	k.settings = settings
	k.mu.Unlock()
	k.reload(ctx)
}

// Invalidate makes the next look load the active key of a signer type again,
// changed or not: for a KMS whose signature did not verify.
func (k *Keeper) Invalidate(signerType string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.loaded, signerType)
}

func (k *Keeper) reload(ctx context.Context) {
	if k.load(ctx) {
		k.onChange()
	}
}

// load brings the ring up to date and says whether anything is different now.
func (k *Keeper) load(ctx context.Context) (changed bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	contents, err := readFiles(k.dir)
	before := k.ring.Load()
	active, news := k.loadActive(ctx, before, contents, err)
	retired, moreNews := k.loadRetired(ctx, before, contents, err)
	next := &Ring{active: active, retired: retired, problems: maps.Clone(k.problems)}
	next.retire(before)

	differs := !sameKeys(before, next)
	if !differs && !news && !moreNews {
		return false
	}
	k.ring.Store(next)
	if differs {
		active, retired := next.ids()
		logging.FromContext(ctx).Infow("Key ring loaded", "active", active, "retired", retired)
	}
	return true
}

// loadActive is the active key of each signer type: a new one where there is
// one, the one from before otherwise. readErr is why contents are missing.
func (k *Keeper) loadActive(ctx context.Context, before *Ring, contents files, readErr error) (active map[string]*Key, news bool) {
	active = map[string]*Key{}
	k.forgetUnused()
	for _, signerType := range k.settings.SignerTypes {
		key, isNews := (*Key)(nil), false
		if readErr != nil {
			isNews = k.report(ctx, signerType, readErr)
		} else {
			key, isNews = k.loadSigner(ctx, signerType, contents)
		}
		if key = cmp.Or(key, before.active[signerType]); key != nil {
			active[signerType] = key
		}
		news = news || isNews
	}
	return active, news
}

// forgetUnused has a signer that nobody asks for built anew when it is asked for
// again: its key is not active any more.
func (k *Keeper) forgetUnused() {
	for about := range k.loaded {
		if about != retiredSource && !slices.Contains(k.settings.SignerTypes, about) {
			delete(k.loaded, about)
			delete(k.problems, about)
		}
	}
}

// loadRetired adds the retired keys among the files to those known before.
func (k *Keeper) loadRetired(ctx context.Context, before *Ring, contents files, readErr error) (retired []*Key, news bool) {
	fingerprint := contents.fingerprint()
	if readErr != nil || k.loaded[retiredSource].fingerprint == fingerprint {
		return before.retired, false
	}
	k.loaded[retiredSource] = source{fingerprint: fingerprint}
	keys, err := contents.retiredKeys(k.dir)
	return merge(before.retired, keys...), k.report(ctx, retiredSource, err)
}

// loadSigner builds a signer again when its source changed. news says that it
// did, or that the reason why it cannot is another than before.
func (k *Keeper) loadSigner(ctx context.Context, signerType string, contents files) (key *Key, news bool) {
	fingerprint, err := k.fingerprint(signerType, contents)
	if err != nil {
		return nil, k.report(ctx, signerType, err)
	}
	last := k.loaded[signerType]
	if last.fingerprint == fingerprint && (last.retryAt.IsZero() || time.Now().Before(last.retryAt)) {
		return nil, k.report(ctx, signerType, last.err)
	}

	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	key, err = k.build(ctx, signerType, contents)
	next := source{fingerprint: fingerprint, err: err}
	if err != nil && signerType == signing.TypeKMS {
		next.retryAt = time.Now().Add(retryInterval)
	}
	k.loaded[signerType] = next
	news = k.report(ctx, signerType, err)
	return key, news || key != nil
}

func (k *Keeper) build(ctx context.Context, signerType string, contents files) (*Key, error) {
	switch signerType {
	case signing.TypeX509:
		return contents.privateKey(ctx, k.dir)
	case signing.TypeKMS:
		settings := k.settings.KMS // for a call that may outlive them
		key, err := within(ctx, k.calls, func() (*Key, error) {
			signer, err := kms.NewSigner(ctx, settings)
			if err != nil {
				return nil, err
			}
			return signingKey(ctx, signer)
		})
		if err != nil {
			return nil, fmt.Errorf("KMS key %q: %w", k.settings.KMS.KMSRef, err)
		}
		return key, nil
	default:
		return nil, fmt.Errorf("unknown type of signer %q", signerType)
	}
}

// fingerprint changes when a signer has to be built again.
func (k *Keeper) fingerprint(signerType string, contents files) (string, error) {
	if signerType != signing.TypeKMS {
		return contents.fingerprint(), nil
	}
	settings := fmt.Sprintf("%#v", k.settings.KMS)
	if k.settings.KMS.Auth.TokenPath == "" {
		return settings, nil
	}
	token, err := readBounded(k.settings.KMS.Auth.TokenPath)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	return settings + string(token), nil
}

// report remembers what is wrong with a signer (nil: nothing), logs it when it
// is news, and says whether it is.
func (k *Keeper) report(ctx context.Context, about string, err error) (news bool) {
	before := k.problems[about]
	if (before == nil) == (err == nil) && (err == nil || before.Error() == err.Error()) {
		return false
	}
	if err == nil {
		delete(k.problems, about)
		return true
	}
	k.problems[about] = err
	if key := k.ring.Load().active[about]; key != nil {
		logging.FromContext(ctx).Errorw("Signing key not usable, the last good one stays in use",
			"signer", about, "keyId", key.ID, zap.Error(err))
	} else {
		logging.FromContext(ctx).Errorw("Signing key not usable", "signer", about, zap.Error(err))
	}
	return true
}
