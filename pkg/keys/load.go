// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/tektoncd/chains/pkg/chains/signing"
	"github.com/tektoncd/chains/pkg/chains/signing/kms"
	chainsconfig "github.com/tektoncd/chains/pkg/config"
)

// loadFiles loads the keys in the files when a file changed, and reports whether
// one did. readErr is the reason why nothing is known about the files: then
// everything stays as it is.
func (l *Loader) loadFiles(ctx context.Context, contents files, readErr error) (changed bool) {
	if readErr != nil {
		l.attempts[signing.TypeX509] = attempt{err: readErr, signerErr: readErr}
		return false
	}
	inputs := contents.digest()
	if l.attempts[signing.TypeX509].inputs == inputs {
		return false
	}
	l.attempts[signing.TypeX509] = l.loadPrivateFile(ctx, contents, inputs)

	var retiredErr error
	l.retired, retiredErr = contents.retiredKeys(l.dir)
	l.revoked, l.revokedErr = contents.revokedKeys(l.dir)
	l.setProblem(ctx, retiredKeys, retiredErr, nil)
	l.setProblem(ctx, revokedKeys, l.revokedErr, nil)
	return true
}

// loadPrivateFile replaces the signer of runs by that in the files, and the key of
// resources if Tekton can verify its signatures.
func (l *Loader) loadPrivateFile(ctx context.Context, contents files, inputs string) attempt {
	signer, err := contents.signer(l.dir)
	if err != nil {
		return attempt{inputs: inputs, err: err, signerErr: err}
	}
	public, err := signer.PublicKey()
	if err != nil {
		return attempt{inputs: inputs, err: err, signerErr: err}
	}
	id, err := KeyID(public)
	if err != nil {
		return attempt{inputs: inputs, err: err, signerErr: err}
	}
	l.fileSigner, l.fileSignerID = signer, id
	key, err := newSigningKey(ctx, signer)
	if err != nil {
		return attempt{inputs: inputs, err: fmt.Errorf("%s: %w", filepath.Join(l.dir, contents.privateKeyName()), err)}
	}
	l.keys[signing.TypeX509] = key
	return attempt{inputs: inputs}
}

// loadKMS loads the key of the KMS when the settings or the credentials changed, or
// when it is time to try again. It reports whether it loaded a key.
func (l *Loader) loadKMS(ctx context.Context) (loaded bool) {
	if !l.uses(signing.TypeKMS) {
		delete(l.attempts, signing.TypeKMS)
		delete(l.keys, signing.TypeKMS)
		return false
	}
	inputs, err := kmsInputs(l.settings.KMS)
	if err != nil {
		l.attempts[signing.TypeKMS] = attempt{err: err}
		return false
	}
	last := l.attempts[signing.TypeKMS]
	if last.inputs == inputs && (last.retryAt.IsZero() || time.Now().Before(last.retryAt)) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	key, err := l.kmsKey(ctx, l.settings.KMS)
	next := attempt{inputs: inputs, err: err}
	if err != nil {
		next.retryAt = time.Now().Add(retryInterval)
	} else {
		l.keys[signing.TypeKMS] = key
	}
	l.attempts[signing.TypeKMS] = next
	return err == nil
}

func (l *Loader) kmsKey(ctx context.Context, settings chainsconfig.KMSSigner) (*Key, error) {
	client, err := l.kmsClient(ctx, settings)
	if err != nil {
		return nil, err
	}
	key, err := newSigningKey(ctx, client)
	if err != nil {
		return nil, kmsError(settings, err)
	}
	return key, nil
}

// kmsClient connects to the KMS.
func (l *Loader) kmsClient(ctx context.Context, settings chainsconfig.KMSSigner) (signature.SignerVerifier, error) {
	client, err := Call(ctx, l.connects, OperationConnect, settings.KMSRef, func(ctx context.Context) (signature.SignerVerifier, error) {
		return kms.NewSigner(context.WithoutCancel(ctx), settings) // the client of Azure keeps the context for its calls
	})
	if err != nil {
		return nil, kmsError(settings, err)
	}
	return NewKMSClient(client, settings.KMSRef, l.calls), nil
}

func kmsError(settings chainsconfig.KMSSigner, err error) error {
	return fmt.Errorf("KMS key %q: %w", settings.KMSRef, err)
}

// kmsInputs returns a value that changes when the key of the KMS must be loaded
// again.
func kmsInputs(settings chainsconfig.KMSSigner) (string, error) {
	inputs := fmt.Sprintf("%#v", settings)
	if settings.Auth.TokenPath == "" {
		return inputs, nil
	}
	token, err := ReadFile(settings.Auth.TokenPath, maxKeyFile)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	return inputs + string(token), nil
}
