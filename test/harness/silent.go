// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"net"
	"sync"
)

// Silent is a server that accepts connections and never answers, such as a registry
// or a KMS that hangs.
type Silent struct {
	listener net.Listener

	mu          sync.Mutex
	connections []net.Conn
}

// StartSilent starts a server on a free port of the loopback interface.
func StartSilent(ctx context.Context) (*Silent, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Silent{listener: listener}
	go s.accept()
	return s, nil
}

// Host returns the address of the server, with the port.
func (s *Silent) Host() string { return s.listener.Addr().String() }

// Accepted returns the number of connections so far.
func (s *Silent) Accepted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.connections)
}

func (s *Silent) accept() {
	for {
		connection, err := s.listener.Accept()
		if err != nil {
			return // stopped
		}
		s.mu.Lock()
		s.connections = append(s.connections, connection)
		s.mu.Unlock()
	}
}

// Stop stops the server and closes its connections.
func (s *Silent) Stop() error {
	err := s.listener.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, connection := range s.connections {
		_ = connection.Close() // the client may have closed it
	}
	return err
}
