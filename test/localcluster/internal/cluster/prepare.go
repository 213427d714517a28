// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"os"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/pki"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/state"
)

// prepare writes all files that the parts read.
func (r *run) prepare(ctx context.Context) (err error) {
	if r.ports, err = choosePorts(ctx, r.layout.ports()); err != nil {
		return err
	}
	files, err := pki.Ensure(r.layout.pki())
	if err != nil {
		return err
	}
	clientTLS, err := files.ClientTLS()
	if err != nil {
		return err
	}
	r.plane = controlPlane{layout: r.layout, bin: r.bin, ports: r.ports, pki: files, tls: clientTLS, kind: r.NodeKind}
	if err := r.writeKubeconfigs(files); err != nil {
		return err
	}
	if err := state.WriteFile(r.layout.auditPolicy(), auditPolicy); err != nil {
		return err
	}
	r.clients, err = newClients(r.layout.Kubeconfig())
	return err
}

// writeKubeconfigs writes a kubeconfig for each user with a static token.
func (r *run) writeKubeconfigs(files pki.Files) error {
	tokens, err := ensureTokens(r.layout.tokens())
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(files.CA)
	if err != nil {
		return err
	}
	for _, u := range users {
		file := r.layout.identity(u.name)
		if u.name == admin {
			file = r.layout.Kubeconfig()
		}
		text, err := Kubeconfig(r.plane.url("kube-apiserver"), ca, u.name, tokens[u.name])
		if err != nil {
			return err
		}
		if err := state.WriteFile(file, text); err != nil {
			return err
		}
	}
	return nil
}
