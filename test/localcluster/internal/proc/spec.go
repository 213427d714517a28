// SPDX-License-Identifier: Apache-2.0

// Package proc supervises child processes: it starts them and waits until they are healthy, stops and kills them,
// and reports when one exits without a request. Linux only.
package proc

import (
	"context"
	"time"
)

// Spec describes how to run a part of the cluster.
type Spec struct {
	Name    string
	Path    string
	Args    []string
	Env     []string // added to the environment of this process; the last value of a variable wins
	Dir     string   // working directory; empty means that of this process
	LogFile string   // standard output and error are appended here

	// Ready returns nil if the process that was started at the given time is healthy. It is called until it
	// returns nil. If that does not happen in time, Start returns the last error. If Ready is nil, a running
	// process is healthy.
	Ready func(ctx context.Context, started time.Time) error
	// StartTimeout is how long Start waits for Ready.
	StartTimeout time.Duration
	// StopTimeout is how long Stop waits after SIGTERM before it kills.
	StopTimeout time.Duration
}

// State is the state of a part.
type State string

const (
	// Running means that the process exists. It may be unhealthy.
	Running State = "running"
	// Stopped means that the process was not started, or was stopped or killed on request.
	Stopped State = "stopped"
	// Exited means that the process has ended without a request.
	Exited State = "exited"
)

// Status is the status of a part at one time.
type Status struct {
	Name  string    `json:"name"`
	PID   int       `json:"pid,omitempty"` // 0 unless Running
	State State     `json:"state"`
	Since time.Time `json:"since"`
	Exit  string    `json:"exit,omitempty"` // how the last process ended, such as "exit status 1"
	Log   string    `json:"log"`
}
