// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Traces is a server that collects spans in the protocol OTLP over HTTP, such as an
// OpenTelemetry Collector.
type Traces struct {
	server *httptest.Server

	mu    sync.Mutex
	spans []TracedSpan
}

// TracedSpan is a span that the server has got. IDs are in hex.
type TracedSpan struct {
	Service, Name       string
	Trace, ID, ParentID string
	Attributes          map[string]string
	// Failed says that the status of the span is an error, and Text is its text.
	Failed bool
	Text   string
}

// StartTraces starts a server on a free port of the loopback interface.
func StartTraces() *Traces {
	t := &Traces{}
	t.server = httptest.NewServer(http.HandlerFunc(t.collect))
	return t
}

// URL is where spans are sent to.
func (t *Traces) URL() string { return t.server.URL + "/v1/traces" }

// Stop stops the server.
func (t *Traces) Stop() { t.server.Close() }

// Spans returns the spans so far that have all of the attributes.
func (t *Traces) Spans(attributes map[string]string) (found []TracedSpan) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, span := range t.spans {
		if hasAll(span.Attributes, attributes) {
			found = append(found, span)
		}
	}
	return found
}

func hasAll(have, want map[string]string) bool {
	for name, value := range want {
		if have[name] != value {
			return false
		}
	}
	return true
}

func (t *Traces) collect(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	request := &collector.ExportTraceServiceRequest{}
	if err == nil {
		err = proto.Unmarshal(body, request)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	t.add(request)
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func (t *Traces) add(request *collector.ExportTraceServiceRequest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, ofService := range request.GetResourceSpans() {
		service := ""
		for _, attribute := range ofService.GetResource().GetAttributes() {
			if attribute.GetKey() == "service.name" {
				service = attribute.GetValue().GetStringValue()
			}
		}
		for _, ofScope := range ofService.GetScopeSpans() {
			for _, span := range ofScope.GetSpans() {
				t.spans = append(t.spans, tracedSpan(service, span))
			}
		}
	}
}

func tracedSpan(service string, span *trace.Span) TracedSpan {
	attributes := map[string]string{}
	for _, attribute := range span.GetAttributes() {
		attributes[attribute.GetKey()] = attribute.GetValue().GetStringValue()
	}
	return TracedSpan{
		Service: service, Name: span.GetName(), Attributes: attributes,
		Trace: hex.EncodeToString(span.GetTraceId()), ID: hex.EncodeToString(span.GetSpanId()), ParentID: hex.EncodeToString(span.GetParentSpanId()),
		Failed: span.GetStatus().GetCode() == trace.Status_STATUS_CODE_ERROR, Text: span.GetStatus().GetMessage(),
	}
}
