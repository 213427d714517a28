// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/go-openapi/runtime"
	"github.com/sigstore/rekor/pkg/generated/models"
	"github.com/sigstore/rekor/pkg/types"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/testing/ca"
	"github.com/sigstore/sigstore-go/pkg/tlog"
)

// Rekor is a transparency log in this process. The entries are made by Rekor's code, the
// proofs by sigstore-go's test authority. The log stores no entries: each entry is the
// only one in a tree of its own.
type Rekor struct {
	*server
	authority *ca.VirtualSigstore
	entries   atomic.Int64
}

// StartRekor starts a log with a new key.
func StartRekor(ctx context.Context) (*Rekor, error) {
	authority, err := ca.NewVirtualSigstore()
	if err != nil {
		return nil, err
	}
	r := &Rekor{authority: authority}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/log/entries", func(w http.ResponseWriter, request *http.Request) {
		if err := r.add(w, request); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})
	r.server, err = serve(ctx, mux)
	return r, err
}

// URL returns the URL for the setting transparency.url.
func (r *Rekor) URL() string { return "http://" + r.address }

// Entries returns the number of accepted entries.
func (r *Rekor) Entries() int { return int(r.entries.Load()) }

// TrustedRoot returns a trusted root with this log only, for cosign's --trusted-root.
func (r *Rekor) TrustedRoot() ([]byte, error) {
	logs := r.authority.RekorLogs()
	for id, log := range logs {
		var err error
		if log.ID, err = hex.DecodeString(id); err != nil { // the authority keeps the ID in hexadecimal
			return nil, err
		}
	}
	trusted, err := root.NewTrustedRoot(root.TrustedRootMediaType01, nil, nil, nil, logs)
	if err != nil {
		return nil, err
	}
	return trusted.MarshalJSON()
}

// add handles POST /api/v1/log/entries like Rekor.
func (r *Rekor) add(w http.ResponseWriter, request *http.Request) error {
	proposed, err := models.UnmarshalProposedEntry(request.Body, runtime.JSONConsumer())
	if err != nil {
		return err
	}
	entry, err := types.CreateVersionedEntry(proposed)
	if err != nil {
		return err
	}
	body, err := types.CanonicalizeEntry(request.Context(), entry)
	if err != nil {
		return err
	}
	logged, err := r.log(body)
	if err != nil {
		return err
	}
	r.entries.Add(1)
	const uuid = "24296fb24b8ad77a0000000000000000000000000000000000000000000000000000000000000000"
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("ETag", uuid)
	w.WriteHeader(http.StatusCreated)
	return json.NewEncoder(w).Encode(map[string]models.LogEntryAnon{uuid: logged})
}

func (r *Rekor) log(body []byte) (models.LogEntryAnon, error) {
	proof, err := r.authority.GetInclusionProof(body)
	if err != nil {
		return models.LogEntryAnon{}, err
	}
	id, err := r.authority.RekorLogID()
	if err != nil {
		return models.LogEntryAnon{}, err
	}
	encoded, at, index := base64.StdEncoding.EncodeToString(body), time.Now().Unix(), int64(0)
	promise, err := r.authority.RekorSignPayload(tlog.RekorPayload{Body: encoded, IntegratedTime: at, LogIndex: index, LogID: id})
	if err != nil {
		return models.LogEntryAnon{}, err
	}
	return models.LogEntryAnon{
		Body: encoded, IntegratedTime: &at, LogIndex: &index, LogID: &id,
		Verification: &models.LogEntryAnonVerification{InclusionProof: proof, SignedEntryTimestamp: promise},
	}, nil
}
