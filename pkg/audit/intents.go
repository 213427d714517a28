// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// intent notes an intent, or that an attempt has an outcome.
func (v *verifier) intent(r *Record) error {
	switch {
	case r.Attempt == "":
	case r.Type == ResourceSigning:
		if len(v.intents) >= maxIntents {
			return errTooMuch
		}
		v.intents[r.Attempt] = &Intent{Attempt: r.Attempt, Time: r.Time, Stream: r.Stream, Seq: r.Seq, Object: r.Object, KeyID: r.KeyID}
	case r.Type == ResourceSigned, r.Type == ResourceSignFailed && r.Outcome != Unknown:
		delete(v.intents, r.Attempt)
	}
	return nil
}

// maxEvent bounds a line of the API server's audit log, in bytes. It can have the request and
// the response.
const maxEvent = 16 << 20

// Resolve sets the resolutions of the intents of a report from an audit log of the API server
// in JSON lines. A line that is no event is an error,
// unless it is the last one.
func (r *Report) Resolve(ctx context.Context, log io.Reader) error {
	open := map[string]*Intent{}
	for _, i := range r.Intents {
		open[i.Attempt] = i
	}
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, maxEvent)
	n := 0
	var broken error // of a line; the last line of a live log may be incomplete
	for ; lines.Scan(); n++ {
		if err := errors.Join(broken, ctx.Err()); err != nil {
			return err
		}
		if len(open) == 0 {
			return nil
		}
		var event auditv1.Event
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			broken = fmt.Errorf("line %d is no event of the API server's audit log: %w", n+1, err)
			continue
		}
		i := open[string(event.AuditID)]
		if i == nil || event.Stage != auditv1.StageResponseComplete || event.ResponseStatus == nil || i.Resolution == PatchStored {
			continue
		}
		i.Resolution = PatchRefused
		if event.ResponseStatus.Code == http.StatusOK {
			i.Resolution = PatchStored
		}
	}
	if err := lines.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			err = fmt.Errorf("longer than %d bytes", maxEvent)
		}
		return fmt.Errorf("line %d: %w", n+1, err)
	}
	for _, i := range open {
		if i.Resolution == "" {
			i.Resolution = PatchNotSent
		}
	}
	return nil
}
