// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"cmp"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/hashicorp/vault/api"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature/kms"
	"github.com/sigstore/sigstore/pkg/signature/options"
	chainsconfig "github.com/tektoncd/chains/pkg/config"
)

const (
	// defaultJWTFile and defaultJWTPath are the defaults of Chains and of sigstore's client.
	defaultJWTFile = "/var/run/secrets/kubernetes.io/serviceaccount/token"
	defaultMount   = "transit"
	statusDenied   = http.StatusForbidden
	// maxAnswer bounds what an error says of an answer that is not Vault's.
	maxAnswer = 300
)

// connectVault makes two clients with one token: sigstore's to sign, and Vault's to read
// the public key of a version.
func connectVault(ctx context.Context, auth chainsconfig.KMSAuth, ref string) (*kmsConnection, error) {
	address := cmp.Or(auth.Address, os.Getenv("VAULT_ADDR"), os.Getenv("BAO_ADDR"))
	if address == "" {
		return nil, errors.New("the address is not set; set signers.kms.auth.address or VAULT_ADDR")
	}
	client, err := api.NewClient(&api.Config{Address: address})
	if err != nil {
		return nil, err
	}
	token, err := vaultToken(ctx, client, auth)
	if err != nil {
		return nil, err
	}
	client.SetToken(token)
	signer, err := kms.Get(ctx, ref, crypto.SHA256, options.WithRPCAuthOpts(options.RPCAuth{Address: address, Token: token, Path: mount()}))
	if err != nil {
		return nil, err
	}
	return &kmsConnection{signer: signer, vault: client}, nil
}

// vaultToken returns the token for Vault: from a file, by a login, or from the environment,
// in the order of Chains.
func vaultToken(ctx context.Context, client *api.Client, auth chainsconfig.KMSAuth) (string, error) {
	switch {
	case auth.Spire.Sock != "":
		return "", errors.New("a KeyRing cannot log in with SPIRE (signers.kms.auth.spire.sock); use signers.kms.auth.token-path or signers.kms.auth.oidc")
	case auth.TokenPath != "":
		return readToken(auth.TokenPath)
	case auth.OIDC.Path != "" && auth.OIDC.Role != "":
		jwt, err := readToken(cmp.Or(auth.OIDC.TokenPath, defaultJWTFile))
		if err != nil {
			return "", err
		}
		answer, err := client.Logical().WriteWithContext(ctx, "auth/"+auth.OIDC.Path+"/login", map[string]any{"role": auth.OIDC.Role, "jwt": jwt})
		if err != nil {
			return "", fmt.Errorf("login with role %q at auth/%s: %w", auth.OIDC.Role, auth.OIDC.Path, vaultError(err))
		}
		return answer.TokenID()
	}
	if token := cmp.Or(os.Getenv("VAULT_TOKEN"), os.Getenv("BAO_TOKEN")); token != "" {
		return token, nil
	}
	return "", errors.New("there is no token; set signers.kms.auth.token-path, or signers.kms.auth.oidc.path and signers.kms.auth.oidc.role")
}

func readToken(path string) (string, error) {
	content, err := ReadFile(path, maxKeyFile)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(content))
	if token == "" {
		return "", fmt.Errorf("%s: found no token in the file", path)
	}
	return token, nil
}

func mount() string { return cmp.Or(os.Getenv("TRANSIT_SECRET_ENGINE_PATH"), defaultMount) }

// transitKey is what Vault tells of a key. Keys are in it by version, from
// min_decryption_version to the latest.
type transitKey struct {
	Type                 string                     `json:"type"`
	LatestVersion        json.Number                `json:"latest_version"`
	MinDecryptionVersion json.Number                `json:"min_decryption_version"`
	Keys                 map[string]json.RawMessage `json:"keys"`
}

func readTransitKey(ctx context.Context, client *api.Client, ref string) (*transitKey, error) {
	answer, err := client.Logical().ReadRawWithContext(ctx, mount()+"/keys/"+vaultKeyName(ref))
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }() // no writes that an error could concern
	var content struct {
		Data transitKey `json:"data"`
	}
	if err := answer.DecodeJSON(&content); err != nil {
		return nil, fmt.Errorf("the answer of Vault is not that of a transit engine: %w", err)
	}
	return &content.Data, nil
}

// publicKey returns the public key of exactly this version.
func (k *transitKey) publicKey(version string) (crypto.PublicKey, error) {
	if !strings.HasPrefix(k.Type, "ecdsa-") && !strings.HasPrefix(k.Type, "rsa-") {
		return nil, fmt.Errorf("found a key of type %q, expected ECDSA or RSA: Tekton cannot verify signatures of other keys", k.Type)
	}
	found, ok := k.Keys[version]
	if !ok {
		return nil, k.missing(version)
	}
	var key struct {
		PublicKey string `json:"public_key"`
	}
	if err := json.Unmarshal(found, &key); err != nil {
		return nil, fmt.Errorf("the answer of Vault has no public key: %w", err)
	}
	return cryptoutils.UnmarshalPEMToPublicKey([]byte(key.PublicKey))
}

// missing says why Vault does not return a version.
func (k *transitKey) missing(version string) error {
	if number(version) < number(k.MinDecryptionVersion.String()) {
		return fmt.Errorf("the version is older than min_decryption_version, which is %s, so Vault neither returns nor uses it; "+
			"lower min_decryption_version, or add a key with a newer version to the KeyRing", k.MinDecryptionVersion)
	}
	return fmt.Errorf("no such version in Vault: the latest is %s", k.LatestVersion)
}

// explain returns why Vault did not sign: about a version that is not there any more, its
// own answer says little.
func explain(ctx context.Context, client *api.Client, ref, version string, answer error) error {
	if key, err := readTransitKey(ctx, client, ref); err == nil {
		if _, err := key.publicKey(version); err != nil {
			return err
		}
	}
	return answer
}

// number returns 0 for what is not a number.
func number(version string) int {
	n, _ := strconv.Atoi(version) // Vault's numbers, and those that ValidateKMS accepts
	return n
}

// vaultError shortens an answer of Vault to one line. Other errors stay as they are.
func vaultError(err error) error {
	var answer *api.ResponseError
	if !errors.As(err, &answer) {
		return err
	}
	said := strings.Join(answer.Errors, "; ")
	if len(said) > maxAnswer {
		said = said[:maxAnswer] + "…"
	}
	return fmt.Errorf("status %d from Vault: %s", answer.StatusCode, cmp.Or(strings.Join(strings.Fields(said), " "), http.StatusText(answer.StatusCode)))
}
