// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net"
	"sync"
)

// kmsPlaceholder stands for the address of the KMS that hangs, in a value of --set.
const kmsPlaceholder = "{kms}"

// hanging is a server that accepts connections and never answers.
type hanging struct {
	listener net.Listener

	mu    sync.Mutex
	conns []net.Conn
}

// hangingServers are a registry and a KMS.
type hangingServers struct{ registry, kms *hanging }

func startHanging(ctx context.Context) (s hangingServers, err error) {
	if s.registry, err = newHanging(ctx); err != nil {
		return s, err
	}
	if s.kms, err = newHanging(ctx); err != nil {
		s.registry.stop()
	}
	return s, err
}

func (s hangingServers) stop() {
	s.registry.stop()
	s.kms.stop()
}

func newHanging(ctx context.Context) (*hanging, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	h := &hanging{listener: listener}
	go h.accept()
	return h, nil
}

func (h *hanging) address() string { return h.listener.Addr().String() }

// accepted returns the number of connections so far.
func (h *hanging) accepted() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.conns)
}

func (h *hanging) accept() {
	for {
		conn, err := h.listener.Accept()
		if err != nil {
			return // stopped
		}
		h.mu.Lock()
		h.conns = append(h.conns, conn)
		h.mu.Unlock()
	}
}

func (h *hanging) stop() {
	_ = h.listener.Close()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, conn := range h.conns {
		_ = conn.Close()
	}
}
