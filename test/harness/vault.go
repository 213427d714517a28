// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/hashicorp/vault/api"
)

// VaultKeyType is the type of transit key that most tests use.
const VaultKeyType = "ecdsa-p256"

// transitPath is the default path of the transit engine in sigstore's client.
const transitPath = "transit"

// Vault is a running server of test/harness/vault with a transit engine. It keeps its
// keys in memory.
type Vault struct {
	// Address is the URL of the server, Token is its root token.
	Address, Token string

	unsealKey string
	client    *api.Client
	process   *exec.Cmd
	end       context.CancelFunc
}

// BuildVault brings the server up to date and returns its path. BuildVault is not part
// of Build, because the first build takes 9 minutes of CPU time.
func BuildVault(ctx context.Context, out io.Writer) (string, error) {
	binary := filepath.Join(Root(), ".localcluster", "bin", "vault")
	build := command(ctx, out, "go", "build", "-C", filepath.Join(Root(), "test", "harness", "vault"), "-o", binary, ".")
	if err := build.Run(); err != nil {
		return "", fmt.Errorf("%s: %w", build, err)
	}
	return binary, nil
}

// StartVault starts a server that ends with Stop, or when this process ends. The log
// goes to out.
func StartVault(ctx context.Context, binary string, out io.Writer) (*Vault, error) {
	lifetime, end := context.WithCancel(context.WithoutCancel(ctx)) // only Stop ends the server
	v := &Vault{process: exec.CommandContext(lifetime, binary), end: end}
	v.process.Cancel = func() error { return errors.Join(v.process.Process.Signal(syscall.SIGTERM), v.Resume()) }
	v.process.WaitDelay = stopTimeout
	v.process.SysProcAttr = dieWithParent()
	v.process.Stderr = out
	stdout, err := v.process.StdoutPipe()
	if err == nil {
		err = startOnLockedThread(v.process)
	}
	if err != nil {
		end()
		return nil, err
	}
	if err = v.waitReady(ctx, stdout); err == nil {
		err = v.connect(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting Vault: %w", err), v.Stop())
	}
	return v, nil
}

// waitReady waits for the line that the server prints when it is ready.
func (v *Vault) waitReady(ctx context.Context, stdout io.Reader) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, v.end)() // this closes stdout, so that Decode returns
	var ready struct{ Address, Token, UnsealKey string }
	if err := json.NewDecoder(stdout).Decode(&ready); err != nil {
		return fmt.Errorf("reading the address that it prints when it is ready: %w; see its log above", errors.Join(err, ctx.Err()))
	}
	v.Address, v.Token, v.unsealKey = ready.Address, ready.Token, ready.UnsealKey
	return nil
}

func (v *Vault) connect(ctx context.Context) (err error) {
	if v.client, err = api.NewClient(&api.Config{Address: v.Address}); err != nil {
		return err
	}
	v.client.SetToken(v.Token)
	return v.client.Sys().MountWithContext(ctx, transitPath, &api.MountInput{Type: "transit"})
}

// Env returns the environment variables with which sigstore's client finds the server.
func (v *Vault) Env() map[string]string {
	return map[string]string{"VAULT_ADDR": v.Address, "VAULT_TOKEN": v.Token}
}

// CreateKey creates a key of a type such as VaultKeyType. It returns the reference to the
// key for sigstore, Chains and Tekton.
func (v *Vault) CreateKey(ctx context.Context, name, keyType string) (ref string, err error) {
	_, err = v.client.Logical().WriteWithContext(ctx, transitPath+"/keys/"+name, map[string]any{"type": keyType})
	return "hashivault://" + name, err
}

// RotateKey adds a version to a key. From then on the new version signs.
func (v *Vault) RotateKey(ctx context.Context, name string) error {
	_, err := v.client.Logical().WriteWithContext(ctx, transitPath+"/keys/"+name+"/rotate", nil)
	return err
}

// ConfigureKey changes settings of a key, such as min_decryption_version.
func (v *Vault) ConfigureKey(ctx context.Context, name string, settings map[string]any) error {
	_, err := v.client.Logical().WriteWithContext(ctx, transitPath+"/keys/"+name+"/config", settings)
	return err
}

// CreateToken returns a token with the rights of a policy in Vault's language.
func (v *Vault) CreateToken(ctx context.Context, policyName, policy string) (token string, err error) {
	if err := v.client.Sys().PutPolicyWithContext(ctx, policyName, policy); err != nil {
		return "", err
	}
	created, err := v.client.Auth().Token().CreateWithContext(ctx, &api.TokenCreateRequest{Policies: []string{policyName}})
	if err != nil {
		return "", err
	}
	return created.TokenID()
}

// RevokeToken ends a token.
func (v *Vault) RevokeToken(ctx context.Context, token string) error {
	return v.client.Auth().Token().RevokeTreeWithContext(ctx, token)
}

// Seal makes the server reject all requests until Unseal.
func (v *Vault) Seal(ctx context.Context) error { return v.client.Sys().SealWithContext(ctx) }

// Unseal makes the server serve requests again, with the same keys.
func (v *Vault) Unseal(ctx context.Context) error {
	_, err := v.client.Sys().UnsealWithContext(ctx, v.unsealKey)
	return err
}

// Pause makes the server accept connections and not respond until Resume.
func (v *Vault) Pause() error {
	if err := v.process.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	return waitStopped(v.process.Process.Pid)
}

// Resume makes the server respond again.
func (v *Vault) Resume() error { return v.process.Process.Signal(syscall.SIGCONT) }

// Stop ends the server. It returns an error if the server has ended before.
func (v *Vault) Stop() error {
	v.end()
	switch err := v.process.Wait(); {
	case errors.Is(err, context.Canceled): // ended by v.end
		return nil
	case err == nil:
		return errors.New("Vault ended before it was stopped: see its log above")
	default:
		return fmt.Errorf("stopping Vault: %w", err)
	}
}
