// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"time"
)

// server is an HTTP server in this process. It keeps its address when it is stopped and
// started again, so that tests can take it down for a while.
type server struct {
	address string
	handler http.Handler
	running *http.Server
	ended   chan error
}

// serve starts a server on a free port of the loopback interface.
func serve(ctx context.Context, handler http.Handler) (*server, error) {
	s := &server{address: "127.0.0.1:0", handler: handler}
	return s, s.Start(ctx)
}

// Start serves again after Stop, at the same address and with the same content.
func (s *server) Start(ctx context.Context) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", s.address)
	if err != nil {
		return err
	}
	s.address = listener.Addr().String()
	running := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	s.running, s.ended = running, make(chan error, 1)
	go func(ended chan<- error) { ended <- running.Serve(listener) }(s.ended)
	return nil
}

// Stop closes the listener and all connections. A second Stop does nothing.
func (s *server) Stop() error {
	if s.running == nil {
		return nil
	}
	err := s.running.Close()
	if ended := <-s.ended; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	s.running = nil
	return err
}
