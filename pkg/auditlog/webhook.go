// SPDX-License-Identifier: Apache-2.0

package auditlog

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"github.com/trusted-resources/chains-extension/pkg/audit"
)

const (
	// eventTypePrefix and eventTypeSuffix enclose the type of a record in the type of its
	// CloudEvent.
	eventTypePrefix = "dev.tekton.trustedresources."
	eventTypeSuffix = ".v1"

	sendTimeout = 5 * time.Second
	// retries and retryPause bound what is tried for one record.
	retries    = 2
	retryPause = 100 * time.Millisecond
)

// webhook sends each record as a CloudEvent in structured mode.
type webhook struct {
	url    atomic.Pointer[string]
	client cloudevents.Client
}

func newWebhook() *sink {
	return &sink{name: webhookSink, place: &webhook{}, most: 1, of: func(s Settings) string { return s.WebhookURL }}
}

func (w *webhook) configure(settings Settings) { w.url.Store(&settings.WebhookURL) }

func (w *webhook) open() (_ *tail, err error) {
	// The target gets the request itself, and not somewhere that it redirects to.
	client := http.Client{Timeout: sendTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	w.client, err = cloudevents.NewClientHTTP(cehttp.WithTarget(*w.url.Load()), cehttp.WithClient(client))
	return nil, err
}

func (w *webhook) close() error { return nil }

func (w *webhook) write(batch []entry) error {
	for _, e := range batch {
		if err := w.send(e); err != nil {
			return err
		}
	}
	return nil
}

func (w *webhook) send(e entry) error {
	r := e.record
	event := cloudevents.NewEvent()
	event.SetID(r.Stream + "/" + strconv.FormatUint(r.Seq, 10))
	event.SetSource(audit.Schema)
	event.SetType(eventTypePrefix + string(r.Type) + eventTypeSuffix)
	event.SetTime(r.Time)
	if o := r.Object; o != nil {
		event.SetSubject(o.Kind + "/" + o.Namespace + "/" + o.Name)
	}
	if err := event.SetData(cloudevents.ApplicationJSON, json.RawMessage(e.line)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), (retries+1)*sendTimeout)
	defer cancel()
	ctx = cloudevents.ContextWithRetriesConstantBackoff(cloudevents.WithEncodingStructured(ctx), retryPause, retries)
	if result := w.client.Send(ctx, event); !cloudevents.IsACK(result) {
		// The text of the result has the URL, which ConfigMap readers know.
		return fmt.Errorf("the webhook did not accept an event: %s", audit.Redacted(result.Error()))
	}
	return nil
}
