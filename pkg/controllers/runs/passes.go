// SPDX-License-Identifier: Apache-2.0

package runs

import (
	"context"
	"errors"
	"slices"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/tektoncd/chains/pkg/artifacts"
	"github.com/tektoncd/chains/pkg/chains/objects"
	"github.com/tektoncd/chains/pkg/chains/signing"
	chainsconfig "github.com/tektoncd/chains/pkg/config"
	"go.uber.org/zap"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/keys"
)

// Signers returns the signers of runs.
type Signers interface {
	// RunSigner returns a signer of a type, as keys.Loader.RunSigner describes it.
	RunSigner(ctx context.Context, signerType string, settings chainsconfig.KMSSigner) (signature.SignerVerifier, error)
}

// pass is one call of Chains that signs a run: with one signer, or with none.
type pass struct {
	cfg    *chainsconfig.Config
	signer signature.SignerVerifier // nil if Chains needs none from us
}

// context returns the context with which Chains makes the pass.
func (p pass) context(ctx context.Context) context.Context {
	if p.signer == nil {
		return chainsconfig.ToContext(ctx, p.cfg)
	}
	return withHandover(ctx, p.cfg, p.signer)
}

// passes returns the calls of Chains that sign a run. Chains can be given one signer
// for a call (withHandover), and one call signs all artifacts of a run that have
// signers of the same type: its attestation, and the images that it built. unset says
// why the run gets no attestation: no key is set for it, and then stock Chains makes
// none either.
func passes(ctx context.Context, cfg *chainsconfig.Config, signers Signers, obj objects.TektonObject) (all []pass, unset, err error) {
	ofRun, ofImages := signerTypes(ctx, cfg, obj)
	for _, signerType := range slices.Compact([]string{ofRun, ofImages}) {
		if signerType == config.SignerNone {
			continue
		}
		made, err := newPass(ctx, cfg, signers, signerType)
		switch {
		case err == nil:
			all = append(all, made)
		case errors.Is(err, keys.ErrNotSet) && signerType == ofRun:
			unset = err
		case errors.Is(err, keys.ErrNotSet): // as in stock Chains, whose default is that images have the signer x509
			logging.FromContext(ctx).Warnw("The images of the run are not signed", "signer", signerType, zap.Error(err))
		default:
			return nil, nil, err
		}
	}
	if len(all) == 0 { // Chains only marks the run
		all = append(all, pass{cfg: only(cfg, config.SignerNone, config.SignerNone)})
	}
	return all, unset, nil
}

// signerTypes returns the types of the signers of a run's attestation and of the
// images that it built: config.SignerNone if there are none.
func signerTypes(ctx context.Context, cfg *chainsconfig.Config, obj objects.TektonObject) (ofRun, ofImages string) {
	ofRun, ofImages = config.SignerNone, config.SignerNone
	if run := &cfg.Artifacts.TaskRuns; obj.SupportsTaskRunArtifact() && run.Enabled() {
		ofRun = run.Signer
	}
	if run := &cfg.Artifacts.PipelineRuns; obj.SupportsPipelineRunArtifact() && run.Enabled() {
		ofRun = run.Signer
	}
	if images := (&artifacts.OCIArtifact{}); obj.SupportsOCIArtifact() && images.Enabled(*cfg) && len(images.ExtractObjects(ctx, obj)) > 0 {
		ofImages = images.Signer(*cfg)
	}
	return ofRun, ofImages
}

// newPass returns the pass that signs the artifacts that have a signer of a type. With
// Fulcio, Chains makes its own key, and reads none.
func newPass(ctx context.Context, cfg *chainsconfig.Config, signers Signers, signerType string) (pass, error) {
	if signerType == signing.TypeX509 && cfg.Signers.X509.FulcioEnabled {
		return pass{cfg: only(cfg, signerType, signerType)}, nil
	}
	signer, err := signers.RunSigner(ctx, signerType, cfg.Signers.KMS)
	if err != nil {
		return pass{}, err
	}
	return pass{only(cfg, signerType, handedOverType), signer}, nil
}

// only returns a copy of the configuration in which only the artifacts with a signer
// of a type are signed, by a signer of another type. It has no settings of a KMS.
func only(cfg *chainsconfig.Config, signerType, replacement string) *chainsconfig.Config {
	cfg = cfg.DeepCopy()
	cfg.Signers.KMS = chainsconfig.KMSSigner{}
	for _, artifact := range []*chainsconfig.Artifact{&cfg.Artifacts.TaskRuns, &cfg.Artifacts.PipelineRuns, &cfg.Artifacts.OCI} {
		if artifact.Signer == signerType {
			artifact.Signer = replacement
		} else {
			artifact.Signer = config.SignerNone
		}
	}
	return cfg
}
