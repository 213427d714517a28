// Package proc runs child processes under supervision: start and wait until healthy, stop, kill, and notice
// when one exits by itself. Linux only.
package proc

import (
	"context"
	"time"
)

// Spec says how to run one part of the cluster.
type Spec struct {
	Name    string
	Path    string
	Args    []string
	Env     []string // added to the environment of this process; the last value of a variable wins
	Dir     string   // working directory; empty means that of this process
	LogFile string   // standard output and error are appended here

	// Ready reports whether the process that was started at the given time does its work. It is polled
	// until it returns nil; its last error is shown when it never does. A nil Ready means that running
	// is enough.
	Ready func(ctx context.Context, started time.Time) error
	// StartTimeout bounds the wait for Ready.
	StartTimeout time.Duration
	// StopTimeout is how long Stop waits after SIGTERM before it kills.
	StopTimeout time.Duration
}

// State is where a part is in its life.
type State string

const (
	// Running means that the process exists; it may not be healthy.
	Running State = "running"
	// Stopped means that it was never started, or was stopped or killed on request.
	Stopped State = "stopped"
	// Exited means that it ended although nobody asked it to.
	Exited State = "exited"
)

// Status describes a part at one moment.
type Status struct {
	Name  string    `json:"name"`
	PID   int       `json:"pid,omitempty"` // 0 unless Running
	State State     `json:"state"`
	Since time.Time `json:"since"`
	Exit  string    `json:"exit,omitempty"` // how the last process ended, such as "exit status 1"
	Log   string    `json:"log"`
}
