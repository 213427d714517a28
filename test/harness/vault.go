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

// VaultKeyType is the type of transit key that most tests want.
const VaultKeyType = "ecdsa-p256"

// transitPath is where sigstore looks for the transit engine unless told
// otherwise.
const transitPath = "transit"

// Vault is a running server of test/harness/vault, with a transit engine. What it keeps
// is gone when it stops.
type Vault struct {
	// Address and Token, that of root, are how to reach it.
	Address, Token string

	unsealKey string
	client    *api.Client
	process   *exec.Cmd
	end       context.CancelFunc
}

// BuildVault brings the server up to date and returns its path. It is not part
// of Build, because the first time it takes minutes.
func BuildVault(ctx context.Context, out io.Writer) (string, error) {
	binary := filepath.Join(Root(), ".localcluster", "bin", "vault")
	build := command(ctx, out, "go", "build", "-C", filepath.Join(Root(), "test", "harness", "vault"), "-o", binary, ".")
	if err := build.Run(); err != nil {
		return "", fmt.Errorf("%s: %w", build, err)
	}
	return binary, nil
}

// StartVault starts a server that ends with this process at the latest. Its log
// goes to out.
func StartVault(ctx context.Context, binary string, out io.Writer) (*Vault, error) {
	lifetime, end := context.WithCancel(context.WithoutCancel(ctx)) // Stop lets it end in order
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
	defer context.AfterFunc(ctx, v.end)() // which ends stdout, too
	var ready struct{ Address, Token, UnsealKey string }
	if err := json.NewDecoder(stdout).Decode(&ready); err != nil {
		return fmt.Errorf("waiting for its address: %w; see its log", errors.Join(err, ctx.Err()))
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

// Env is what sigstore's client finds the server with.
func (v *Vault) Env() map[string]string {
	return map[string]string{"VAULT_ADDR": v.Address, "VAULT_TOKEN": v.Token}
}

// CreateKey makes a key, see VaultKeyType, and returns the reference to it that
// sigstore, Chains and Tekton take.
func (v *Vault) CreateKey(ctx context.Context, name, keyType string) (ref string, err error) {
	_, err = v.client.Logical().WriteWithContext(ctx, transitPath+"/keys/"+name, map[string]any{"type": keyType})
	return "hashivault://" + name, err
}

// RotateKey adds a version to a key, which signs from now on.
func (v *Vault) RotateKey(ctx context.Context, name string) error {
	_, err := v.client.Logical().WriteWithContext(ctx, transitPath+"/keys/"+name+"/rotate", nil)
	return err
}

// Seal makes the server refuse all requests, until Unseal.
func (v *Vault) Seal(ctx context.Context) error { return v.client.Sys().SealWithContext(ctx) }

// Unseal undoes Seal. All keys are there again.
func (v *Vault) Unseal(ctx context.Context) error {
	_, err := v.client.Sys().UnsealWithContext(ctx, v.unsealKey)
	return err
}

// Pause makes the server accept connections and never answer, until Resume.
func (v *Vault) Pause() error { return v.process.Process.Signal(syscall.SIGSTOP) }

// Resume undoes Pause.
func (v *Vault) Resume() error { return v.process.Process.Signal(syscall.SIGCONT) }

// Stop ends the server. That it has ended before is an error.
func (v *Vault) Stop() error {
	v.end()
	switch err := v.process.Wait(); {
	case errors.Is(err, context.Canceled): // it did as it was told
		return nil
	case err == nil:
		return errors.New("Vault ended by itself")
	default:
		return fmt.Errorf("stopping Vault: %w", err)
	}
}
