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

The credentials are those of docker login. A registry with a certificate of its
own authority takes SSL_CERT_FILE.`,
	}
	var access registryAccess
	command.PersistentFlags().BoolVar(&access.insecure, "insecure", false, "accept any certificate of the registry, and plain HTTP")
	command.AddCommand(newSign(&access), newVerify(&access), newGet(&access))
	return command
}

type registryAccess struct{ insecure bool }

func (a *registryAccess) client() *registry.Client {
	return registry.NewClient(registry.Options{Insecure: a.insecure, Keychains: dockerLogin{}})
}

// dockerLogin are the credentials of the user.
type dockerLogin struct{}

var _ registry.Keychains = dockerLogin{}

// Keychain implements registry.Keychains.
func (dockerLogin) Keychain(context.Context) (authn.Keychain, error) {
	return authn.DefaultKeychain, nil
}

func newSign(access *registryAccess) *cobra.Command {
	var secrets, kms, rekor string
	command := &cobra.Command{
		Use:   "sign REFERENCE",
		Short: "Attach a signature to a bundle that somebody pushed",
		Long: `Attach a signature to a bundle that somebody pushed, as cosign would.

It covers the bundle as a whole. The signatures of the resources in it, which
Tekton verifies, stay as they are.`,
		Example: `  # with the key in a directory, as cosign generate-key-pair makes it
  tkn-trust bundle sign --signing-secrets . registry.example/tekton/prod:v1

  # with a key in a KMS
  tkn-trust bundle sign --kms hashivault://tekton registry.example/tekton/prod:v1`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := activeKey(cmd.Context(), secrets, kms)
			if err != nil {
				return err
			}
			signed, err := oci.Sign(cmd.Context(), access.client(), args[0], key, imagesignature.Options{RekorURL: rekor})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is signed with key %s\n", signed, key.ID)
			return err
		},
	}
	flags := command.Flags()
	flags.StringVar(&secrets, "signing-secrets", "", "directory with x509.pem, or with cosign.key and cosign.password")
	flags.StringVar(&kms, "kms", "", "key in a KMS, such as hashivault://KEY or gcpkms://projects/…")
	flags.StringVar(&rekor, "rekor-url", "", "transparency log to enter the signature in (default: none)")
	command.MarkFlagsOneRequired("signing-secrets", "kms")
	command.MarkFlagsMutuallyExclusive("signing-secrets", "kms")
	return command
}

// activeKey loads a key as the controller does.
func activeKey(ctx context.Context, secrets, kms string) (*keys.Key, error) {
	signerType := signing.TypeX509
	if kms != "" {
		signerType = signing.TypeKMS
	}
	settings := keys.Settings{SignerTypes: []string{signerType}, KMS: chainsconfig.KMSSigner{KMSRef: kms}}
	return keys.Load(ctx, secrets, settings).Active(signerType)
}

func newVerify(access *registryAccess) *cobra.Command {
	var keys []string
	var format output
	command := &cobra.Command{
		Use:   "verify REFERENCE",
		Short: "Verify a bundle: its own signatures, and those of the resources in it",
		Long: `Verify a bundle: its own signatures, and those of the resources in it.

The exit code is 0 if the bundle and every resource in it are signed with one of
the keys, 1 if not, and 2 if that could not be found out.`,
		Example: `  tkn-trust bundle verify --key cosign.pub registry.example/tekton/prod:v1
  tkn-trust bundle verify --key cosign.pub -o json registry.example/tekton/prod@sha256:…`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			trusted, err := readKeys(keys)
			if err != nil {
				return err
			}
			found, err := oci.Inspect(cmd.Context(), access.client(), args[0], trusted)
			if err != nil {
				return err
			}
			verified := newVerified(found)
			if err := format.write(cmd.OutOrStdout(), verified, verified.table); err != nil {
				return err
			}
			if !verified.Verified {
				return fmt.Errorf("%s: %w", found.Reference, errFindings)
			}
			return nil
		},
	}
	addKeys(command, &keys)
	format.add(command, "table", "json", "yaml")
	return command
}

func newGet(access *registryAccess) *cobra.Command {
	var keys []string
	var prefix, namespace, checksum string
	var format output
	command := &cobra.Command{
		Use:   "get KIND NAME",
		Short: "Retrieve a resource that the controller stored, verified",
		Long: `Retrieve a resource that the controller stored, verified, and print it.

The checksum is the sha256 digest that provenance attestations name for it. A
resource that is not signed with one of the keys is not printed; the exit code is
1 then.`,
		Example: `  # the newest state
  tkn-trust bundle get task build -n prod --repository registry.example/tekton --key cosign.pub

  # the state that an attestation names
  tkn-trust bundle get task build -n prod --repository registry.example/tekton --key cosign.pub --checksum 0b39…`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			trusted, err := readKeys(keys)
			if err != nil {
				return err
			}
			kind, err := kindNamed(args[0])
			if err != nil {
				return err
			}
			state, err := hex.DecodeString(strings.TrimPrefix(checksum, "sha256:"))
			if err != nil {
				return fmt.Errorf("--checksum %q: expected hexadecimal: %w", checksum, err)
			}
			if checksum == "" {
				state = nil
			}
			store := &oci.Store{Registry: access.client(), Prefix: prefix}
			found, err := store.Find(cmd.Context(), oci.ID{Kind: kind, Namespace: namespace, Name: args[1]}, state, trusted)
			if errors.Is(err, oci.ErrNotTrusted) {
				return errors.Join(errFindings, err)
			}
			if err != nil {
				return err
			}
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%s, signed with key %s\n", found.Reference, strings.Join(found.Signers, " and "))
			return format.write(cmd.OutOrStdout(), found.Resources[0].Object, nil)
		},
	}
	addKeys(command, &keys)
	flags := command.Flags()
	flags.StringVar(&prefix, "repository", "", "what trustedresources.oci.repository says in chains-config (required)")
	flags.StringVarP(&namespace, "namespace", "n", "default", "namespace of the resource")
	flags.StringVar(&checksum, "checksum", "", "Tekton's checksum of the state, in hexadecimal (default: the newest)")
	_ = command.MarkFlagRequired("repository")
	format.add(command, "yaml", "json")
	return command
}

func kindNamed(name string) (resource.Kind, error) {
	for _, kind := range resource.Kinds {
		if strings.EqualFold(name, string(kind)) {
			return kind, nil
		}
	}
	return "", fmt.Errorf("kind %q: expected one of %v", name, resource.Kinds)
}

func addKeys(command *cobra.Command, keys *[]string) {
	command.Flags().StringArrayVar(keys, "key", nil, "PEM file with a public key that is trusted; may be repeated (required)")
	_ = command.MarkFlagRequired("key")
}

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
