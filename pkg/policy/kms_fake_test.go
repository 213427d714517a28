// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"crypto"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/kms"
	"github.com/sigstore/sigstore/pkg/signature/kms/fake"
)

// testScheme is the scheme of a KMS that a test can stop, and whose keys a test can
// rotate. Making a client does not call the server.
const testScheme = "testkms://"

func init() {
	kms.AddProvider(testScheme, func(_ context.Context, ref string, hash crypto.Hash, _ ...signature.RPCOption) (kms.SignerVerifier, error) {
		server, found := servers.Load(strings.TrimPrefix(ref, testScheme))
		if !found {
			return nil, errors.New("no such server")
		}
		return &serverClient{server: server.(*keyServer), hash: hash}, nil
	})
}

var servers sync.Map // *keyServer by name

type keyServer struct {
	mu    sync.Mutex
	key   keyPair
	err   error
	reads int
	// block delays every read, blockVerify every verification, until it is closed.
	// nil delays nothing.
	block, blockVerify chan struct{}
	hanging            atomic.Int64 // calls that block or blockVerify delays
}

// newServer returns a server and the reference to its key.
func newServer(name string, key keyPair) (*keyServer, string) {
	server := &keyServer{key: key}
	servers.Store(name, server)
	return server, testScheme + name
}

func (s *keyServer) rotate(key keyPair) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key = key
}

func (s *keyServer) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *keyServer) read() (keyPair, error) {
	s.wait(s.block)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	return s.key, s.err
}

func (s *keyServer) wait(block chan struct{}) {
	if block != nil {
		s.hanging.Add(1)
		<-block
		s.hanging.Add(-1)
	}
}

// unblock ends all calls that hang.
func (s *keyServer) unblock() {
	for _, block := range []chan struct{}{s.block, s.blockVerify} {
		if block != nil {
			close(block)
		}
	}
}

func (s *keyServer) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads
}

// serverClient reads the key once, as the clients of some clouds do.
type serverClient struct {
	fake.SignerVerifier // the other methods, which are not called
	server              *keyServer
	hash                crypto.Hash

	mu  sync.Mutex
	key *keyPair
}

func (c *serverClient) PublicKey(...signature.PublicKeyOption) (crypto.PublicKey, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.key == nil {
		key, err := c.server.read()
		if err != nil {
			return nil, err
		}
		c.key = &key
	}
	return c.key.Public(), nil
}

func (c *serverClient) VerifySignature(sig, content io.Reader, _ ...signature.VerifyOption) error {
	c.server.wait(c.server.blockVerify)
	public, err := c.PublicKey()
	if err != nil {
		return err
	}
	verifier, err := signature.LoadVerifier(public, c.hash)
	if err != nil {
		return err
	}
	return verifier.VerifySignature(sig, content)
}
