// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/spf13/cobra"
	"github.com/tektoncd/chains/pkg/chains/signing"
	chainsconfig "github.com/tektoncd/chains/pkg/config"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/oci/imagesignature"
	"github.com/trusted-resources/chains-extension/pkg/oci/registry"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/store/oci"
)

func newBundle() *cobra.Command {
	command := &cobra.Command{
		Use:   "bundle",
		Short: "Sign, verify and retrieve Tekton bundles in a registry",
		Long: `Sign, verify and retrieve Tekton bundles in a registry.

The command uses the credentials of docker login. If a private certificate
authority issued the registry's certificate, set SSL_CERT_FILE to the file with
the authority's certificate.`,
	}
	var access registryAccess
	command.PersistentFlags().BoolVar(&access.insecure, "insecure", false, "accept any certificate of the registry, and registries without TLS")
	command.AddCommand(newSign(&access), newVerify(&access), newGet(&access))
	return command
}

// registryAccess holds the flags of all subcommands.
type registryAccess struct{ insecure bool }

func (a *registryAccess) client() *registry.Client {
	return registry.NewClient(registry.Options{Insecure: a.insecure, Keychains: dockerLogin{}})
}

// dockerLogin provides the credentials that docker login has saved.
type dockerLogin struct{}

var _ registry.Keychains = dockerLogin{}

// Keychain implements registry.Keychains.
func (dockerLogin) Keychain(context.Context) (authn.Keychain, error) {
	return authn.DefaultKeychain, nil
}

func newSign(access *registryAccess) *cobra.Command {
	var secrets, kms, rekor, release string
	command := &cobra.Command{
		Use:   "sign REFERENCE",
		Short: "Attach a signature to a bundle in a registry",
		Long: `Attach a signature to a bundle in a registry, in the format of cosign.

The signature covers the bundle as a whole. The command does not change the
signatures of the resources in the bundle, which Tekton verifies.

Tekton before v1.10 computes other checksums of the resources than newer releases,
so a bundle is for the ones or for the others. With --tekton-release, the command
signs the bundle only if the same key signed each resource for that release.`,
		Example: `  # with a key in the current directory, as cosign generate-key-pair writes it
  tkn-trust bundle sign --signing-secrets . registry.example/tekton/prod:v1

  # only if clusters with Tekton v1.9.3 accept the resources
  tkn-trust bundle sign --signing-secrets . --tekton-release v1.9.3 registry.example/tekton/prod:v1

  # with a key in a KMS
  tkn-trust bundle sign --kms hashivault://tekton registry.example/tekton/prod:v1`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ring, signerType := signingRing(cmd.Context(), secrets, kms)
			key, err := ring.Active(signerType)
			if err != nil {
				return err
			}
			reference, err := forRelease(cmd.Context(), cmd, access.client(), args[0], release, ring)
			if err != nil {
				return err
			}
			signed, err := oci.Sign(cmd.Context(), access.client(), reference, key, imagesignature.Options{RekorURL: rekor})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is signed with key %s\n", signed, key.ID)
			return err
		},
	}
	flags := command.Flags()
	flags.StringVar(&secrets, "signing-secrets", "", "directory with x509.pem, or with cosign.key and cosign.password")
	flags.StringVar(&kms, "kms", "", "reference of a key in a KMS, such as hashivault://KEY or gcpkms://projects/…")
	flags.StringVar(&rekor, "rekor-url", "", "URL of the transparency log (Rekor) that records the signature (default: no log)")
	addRelease(command, &release)
	command.MarkFlagsOneRequired("signing-secrets", "kms")
	command.MarkFlagsMutuallyExclusive("signing-secrets", "kms")
	return command
}

// signingRing loads the key from a directory or, if kms is not empty, from a KMS.
func signingRing(ctx context.Context, secrets, kms string) (ring *keys.Ring, signerType string) {
	signerType = signing.TypeX509
	if kms != "" {
		signerType = signing.TypeKMS
	}
	settings := keys.Settings{SignerTypes: []string{signerType}, KMS: chainsconfig.KMSSigner{KMSRef: kms}}
	return keys.Load(ctx, secrets, settings), signerType
}

func newVerify(access *registryAccess) *cobra.Command {
	var keys []string
	var namespace, release string
	var format output
	command := &cobra.Command{
		Use:   "verify REFERENCE",
		Short: "Verify the signatures of a bundle and of its resources",
		Long: `Verify the signatures of a bundle and of its resources.

A signature does not say where a bundle belongs: a resource that was signed in
one namespace can be copied to the repository of another. With --namespace, each
resource must also belong to that namespace.

Tekton before v1.10 computes other checksums of the resources than newer releases,
and refuses signatures that were made for the newer ones, and the other way round.
With --tekton-release, each resource must be signed for that release.

The exit code is
  0  if the keys signed the bundle and every resource in the bundle,
     and every resource belongs to the namespace and is signed for the release,
  1  if not,
  2  if the command could not verify the bundle.`,
		Example: `  tkn-trust bundle verify --key cosign.pub registry.example/tekton/prod:v1
  tkn-trust bundle verify --key cosign.pub --namespace prod registry.example/tekton/prod:v1
  tkn-trust bundle verify --key cosign.pub -o json registry.example/tekton/prod@sha256:…`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			trusted, err := readKeys(keys)
			if err != nil {
				return err
			}
			check, err := namespaceCheck(cmd, namespace)
			if err != nil {
				return err
			}
			checkRelease, err := releaseCheck(cmd, release)
			if err != nil {
				return err
			}
			found, err := oci.Inspect(cmd.Context(), access.client(), args[0], trusted)
			if err != nil {
				return err
			}
			findings := errors.Join(signatureFindings(found), check(found), checkRelease(found))
			result := newVerification(found, findings == nil)
			if err := format.write(cmd.OutOrStdout(), result, result.table); err != nil {
				return err
			}
			return findings
		},
	}
	addKeys(command, &keys)
	command.Flags().StringVarP(&namespace, "namespace", "n", "", "namespace to which every resource must belong (default: not checked)")
	addRelease(command, &release)
	format.add(command, "table", "json", "yaml")
	return command
}

func signatureFindings(found *oci.Image) error {
	if found.CheckTrust() != nil {
		return fmt.Errorf("%s: %w", found.Reference, errFindings)
	}
	return nil
}

// namespaceCheck returns the check that the flag --namespace asks for. An empty
// value is an error, and not "no check": a script may have an unset variable there.
func namespaceCheck(cmd *cobra.Command, namespace string) (func(*oci.Image) error, error) {
	if !cmd.Flags().Changed("namespace") {
		return func(*oci.Image) error { return nil }, nil
	}
	if problems := validation.IsDNS1123Label(namespace); len(problems) > 0 {
		return nil, fmt.Errorf("--namespace %q: %s", namespace, strings.Join(problems, "; "))
	}
	return func(found *oci.Image) error { return found.CheckNamespace(namespace) }, nil
}

func newGet(access *registryAccess) *cobra.Command {
	var keys []string
	var prefix, namespace, checksum string
	var format output
	command := &cobra.Command{
		Use:   "get KIND NAME",
		Short: "Retrieve and verify a resource that the controller put into a registry",
		Long: `Retrieve a resource that the controller put into a registry, verify its
signatures and print the resource.

The checksum is the sha256 digest of the resource in a provenance attestation. If
the keys did not sign the resource, the command prints nothing and the exit code
is 1.`,
		Example: `  # the newest state
  tkn-trust bundle get task build -n prod --repository registry.example/tekton --key cosign.pub

  # the state in an attestation
  tkn-trust bundle get task build -n prod --repository registry.example/tekton --key cosign.pub --checksum 0b39…`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			trusted, err := readKeys(keys)
			if err != nil {
				return err
			}
			kind, err := parseKind(args[0])
			if err != nil {
				return err
			}
			state, err := hex.DecodeString(strings.TrimPrefix(checksum, "sha256:"))
			if err != nil {
				return fmt.Errorf("--checksum %q: expected hexadecimal digits: %w", checksum, err)
			}
			if checksum == "" {
				state = nil
			}
			store, id := &oci.Store{Registry: access.client(), Prefix: prefix}, oci.ID{Kind: kind, Namespace: namespace, Name: args[1]}
			found, err := store.Find(cmd.Context(), id, state, trusted)
			if errors.Is(err, oci.ErrNotTrusted) {
				return errors.Join(errFindings, err)
			}
			if err != nil {
				return err
			}
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%s, signed with key %s\n", found.Reference, strings.Join(found.Signers, " and "))
			return format.write(cmd.OutOrStdout(), found.Resource(id, state).Object, nil)
		},
	}
	addKeys(command, &keys)
	flags := command.Flags()
	flags.StringVar(&prefix, "repository", "", "value of trustedresources.oci.repository in chains-config (required)")
	flags.StringVarP(&namespace, "namespace", "n", "default", "namespace of the resource")
	flags.StringVar(&checksum, "checksum", "", "Tekton's checksum of the state, in hexadecimal (default: the newest state)")
	_ = command.MarkFlagRequired("repository")
	format.add(command, "yaml", "json")
	return command
}

// parseKind returns the kind with this name in any case.
func parseKind(name string) (resource.Kind, error) {
	for _, kind := range resource.Kinds {
		if strings.EqualFold(name, string(kind)) {
			return kind, nil
		}
	}
	return "", fmt.Errorf("kind %q: expected one of %v", name, resource.Kinds)
}

// addKeys adds the flag --key to a command.
func addKeys(command *cobra.Command, keys *[]string) {
	command.Flags().StringArrayVar(keys, "key", nil, "PEM file with a trusted public key; may be repeated (required)")
	_ = command.MarkFlagRequired("key")
}

// readKeys reads the files of --key.
func readKeys(files []string) (*keys.Ring, error) {
	trusted := make([]crypto.PublicKey, 0, len(files))
	for _, file := range files {
		key, err := keys.ReadPublicKey(file)
		if err != nil {
			return nil, fmt.Errorf("--key %s: %w", file, err)
		}
		trusted = append(trusted, key)
	}
	return keys.NewVerifyingRing(trusted...)
}
