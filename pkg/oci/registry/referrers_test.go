// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/trusted-resources/chains-extension/pkg/oci/registry/registrytest"
)

// servePages answers requests for referrers with pages of a list. link returns
// the URL of a page.
func servePages(pages, each int, link func(page int) string) registrytest.Rule {
	return registrytest.When(registrytest.Request(http.MethodGet, "/referrers/"), func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		page := 0
		_, _ = fmt.Sscan(r.URL.Query().Get("page"), &page)
		index := ocispec.Index{Manifests: []ocispec.Descriptor{}}
		for i := range each {
			index.Manifests = append(index.Manifests, ocispec.Descriptor{
				MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(fmt.Sprint(page, i)), Size: 1,
			})
		}
		if page++; page < pages {
			w.Header().Set("Link", "<"+link(page)+`>; rel="next"`)
		}
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		_ = json.NewEncoder(w).Encode(index)
	})
}

func nextPage(page int) string { return fmt.Sprintf("?page=%d", page) }

func TestReferrers_ReadsBoundedNumberOfPages(t *testing.T) {
	for name, tc := range map[string]struct {
		pages, each, want int
		link              func(int) string
	}{
		"one page":                     {1, 3, 3, nextPage},
		"three pages":                  {3, 2, 6, nextPage},
		"as many referrers as allowed": {10, maxReferrers / 10, maxReferrers, nextPage},
		"one referrer too many":        {1, maxReferrers + 1, -1, nextPage},
		"one page too many":            {maxPages + 1, 1, -1, nextPage},
		"endless empty pages":          {1 << 30, 0, -1, nextPage},
		"link to another host":         {2, 1, -1, func(int) string { return "http://other.example/" }},
		"invalid link":                 {2, 1, -1, func(int) string { return "%" }},
	} {
		f := newFixture(t)
		f.addManifest("x")
		f.server.Set(servePages(tc.pages, tc.each, tc.link))
		found, err := f.repo.Referrers(t.Context(), placeholderDigest)
		if (err != nil) != (tc.want < 0) || err == nil && len(found) != tc.want {
			t.Errorf("%s: got %d and %v", name, len(found), err)
		}
	}
}

func TestReferrers_RejectsMalformedLists(t *testing.T) {
	f := newFixture(t)
	f.addManifest("x")
	for name, body := range map[string]string{
		"not JSON":       "x",
		"truncated JSON": `{"manifests": [`,
		"too long":       `{"manifests": []` + strings.Repeat(" ", maxMetadata),
	} {
		f.server.Set(registrytest.Always(registrytest.Tamper(func(http.Header, []byte) []byte { return []byte(body) })))
		if found, err := f.repo.Referrers(t.Context(), placeholderDigest); err == nil {
			t.Errorf("%s: got %v", name, found)
		}
	}
}

// For a repository that does not exist, a registry may answer as if it had no
// referrers API.
func TestPushReferrer_CreatesRepositoryBeforeProbe(t *testing.T) {
	f := newFixture(t)
	if found, err := f.repo.Referrers(t.Context(), placeholderDigest); err != nil || len(found) != 0 {
		t.Fatalf("got %v and %v", found, err)
	}
	subject := newManifest(t, "subject", nil)
	f.wantRequests(5, "the first referrer", func() error {
		return f.repo.PushReferrer(t.Context(), newReferrer(t, subject, 0), subject.Descriptor.Digest)
	})
	f.wantRequests(2, "the second referrer", func() error {
		return f.repo.PushReferrer(t.Context(), newReferrer(t, subject, 1), subject.Descriptor.Digest)
	})
	if found := f.referrersOf(subject.Descriptor.Digest); len(found) != 2 {
		t.Errorf("got %v", found)
	}
}
