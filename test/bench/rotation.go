// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"slices"
)

// rotation is how long rotations of a KeyRing take without other work, and how fast the
// Tasks are signed again, compared with the bare client.
type rotation struct {
	Count       int             `json:"count"`
	Namespaces  int             `json:"namespaces"` // each with one policy
	Concurrency int             `json:"concurrency"`
	Rounds      []rotationRound `json:"rounds"`
	// MedianRatio is the median of the rounds' ratios, as the function median
	// defines it.
	MedianRatio float64 `json:"medianRatio"`
}

// rotationRound is one rotation and one pass of the bare client. The times begin before
// the request that adds the new key to the KeyRing, and end when a watch shows the result.
type rotationRound struct {
	// Trusted is until the last policy has the new key.
	Trusted seconds `json:"changeToTrustedSeconds"`
	// Active is until status.active is the new key.
	Active seconds `json:"changeToActiveSeconds"`
	// LastSigned is until the last Task has a signature of the new key.
	LastSigned seconds `json:"changeToLastSeconds"`
	// Rotated is until the old key is retired and the condition Rotated is true. By
	// design, the old key is not retired in the first 120 s after Active.
	Rotated seconds `json:"changeToRotatedSeconds"`

	// Controller is from the first new signature to the last.
	Controller pass `json:"controller"`
	Bare       pass `json:"bare"`
	// Ratio is the controller's rate divided by the bare client's rate.
	Ratio float64 `json:"ratio"`
	// Writes are those from the change until Rotated.
	Writes writes `json:"writes"`

	number int // of this round, from 1
}

func (b *bench) measureRotation(ctx context.Context, o options) (*rotation, error) {
	result := &rotation{Count: o.count, Namespaces: o.namespaces, Concurrency: o.concurrency}
	for i := range o.rounds {
		r := rotationRound{number: i + 1}
		passes := []func(context.Context, options, *rotationRound) error{b.rotateOnce, b.bareBesideRotation}
		if i%2 == 1 {
			slices.Reverse(passes) // so that a slow change of the machine's speed favours neither
		}
		for _, pass := range passes {
			if err := pass(ctx, o, &r); err != nil {
				return result, err
			}
		}
		r.Ratio = r.Controller.PerSecond / r.Bare.PerSecond
		b.log.Printf("round %d of %d: rotation %.0f/s, bare %.0f/s, ratio %.2f; rotated after %v",
			r.number, o.rounds, r.Controller.PerSecond, r.Bare.PerSecond, r.Ratio, r.Rotated)
		result.Rounds = append(result.Rounds, r)
		result.MedianRatio = medianRatio(result.passes())
	}
	return result, nil
}

// bareBesideRotation is barePass in a round of rotations.
func (b *bench) bareBesideRotation(ctx context.Context, o options, r *rotationRound) error {
	var bare round
	err := b.barePass(ctx, o, &bare)
	r.Bare = bare.Bare
	return err
}

// passes returns what the rounds have in common with those of a backlog.
func (r *rotation) passes() []round {
	rounds := make([]round, 0, len(r.Rounds))
	for _, of := range r.Rounds {
		rounds = append(rounds, round{Controller: of.Controller, Bare: of.Bare, Ratio: of.Ratio})
	}
	return rounds
}

func (t *tables) rotation(r *rotation) {
	t.line("\nRotation of a KeyRing: %d Tasks in %d namespaces with one policy each, %d workers; Tasks per second from the first new signature to the last. The times begin when the new key is added to the KeyRing; the old key is retired 120 s after the new one is active, at the earliest",
		r.Count, r.Namespaces, r.Concurrency)
	t.row("round", "controller", "bare client", "ratio", "in all policies", "active", "last signature", "old key retired", "writes/Task", "Tasks without exactly one write", "refused writes")
	for i, of := range r.Rounds {
		t.row(i+1, fixed(of.Controller.PerSecond, 0), fixed(of.Bare.PerSecond, 0), fixed(of.Ratio, 2),
			of.Trusted, of.Active, of.LastSigned, of.Rotated,
			fixed(of.Writes.PerResource, 2), of.Writes.NotOnce, of.Writes.Refused)
	}
	t.line("median ratio: %.2f", r.MedianRatio)
}
