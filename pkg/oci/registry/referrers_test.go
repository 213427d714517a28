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

// list answers with referrers, one page after the other.
func list(pages, each int, link func(page int) string) registrytest.Fault {
	return registrytest.Where(registrytest.Asks(http.MethodGet, "/referrers/"), func(_ int, w http.ResponseWriter, r *http.Request, _ http.Handler) {
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

func next(page int) string { return fmt.Sprintf("?page=%d", page) }

func TestReferrersOnManyPages(t *testing.T) {
	for name, tc := range map[string]struct {
		pages, each, want int
		link              func(int) string
	}{
		"one page":           {1, 3, 3, next},
		"three pages":        {3, 2, 6, next},
		"as many as we take": {10, maxReferrers / 10, maxReferrers, next},
		"one too many":       {1, maxReferrers + 1, -1, next},
		"too many pages":     {maxPages + 1, 1, -1, next},
		"pages without end":  {1 << 30, 0, -1, next},
		"pages elsewhere":    {2, 1, -1, func(int) string { return "http://other.example/" }},
		"no page":            {2, 1, -1, func(int) string { return "%" }},
	} {
		w := newWorld(t)
		w.pushed("x")
		w.Fail(list(tc.pages, tc.each, tc.link))
		found, err := w.Referrers(t.Context(), nobody)
		if (err != nil) != (tc.want < 0) || err == nil && len(found) != tc.want {
			t.Errorf("%s: got %d and %v", name, len(found), err)
		}
	}
}

func TestListsOfReferrersThatAreNone(t *testing.T) {
	w := newWorld(t)
	w.pushed("x")
	for name, body := range map[string]string{
		"no JSON":    "x",
		"half of it": `{"manifests": [`,
		"too long":   `{"manifests": []` + strings.Repeat(" ", maxMetadata),
	} {
		w.Fail(registrytest.Changed(func(http.Header, []byte) []byte { return []byte(body) }))
		if found, err := w.Referrers(t.Context(), nobody); err == nil {
			t.Errorf("%s: got %v", name, found)
		}
	}
}

// Some that do not know the repository say so where others say that they do not
// list referrers.
func TestARegistryThatIsAskedBeforeTheRepositoryIsThere(t *testing.T) {
	w := newWorld(t)
	if found, err := w.Referrers(t.Context(), nobody); err != nil || len(found) != 0 {
		t.Fatalf("got %v and %v", found, err)
	}
	subject := manifest(t, "subject", nil)
	one := attachment(t, subject, 0)
	w.count(5, "the first referrer", func() error { return w.PushReferrer(t.Context(), one, subject.Descriptor.Digest) })
	w.count(2, "the second", func() error {
		return w.PushReferrer(t.Context(), attachment(t, subject, 1), subject.Descriptor.Digest)
	})
	if found := w.referrersOf(subject.Descriptor.Digest); len(found) != 2 {
		t.Errorf("got %v", found)
	}
}
