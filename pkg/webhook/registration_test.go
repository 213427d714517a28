// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	registrationv1 "k8s.io/api/admissionregistration/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	ours "github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/config"
)

func manifestWebhooks() []registrationv1.MutatingWebhook {
	return []registrationv1.MutatingWebhook{{
		Name:         "pods.trustedresources.tekton.dev",
		ClientConfig: registrationv1.WebhookClientConfig{Service: &registrationv1.ServiceReference{Name: service, Port: new(int32(7))}},
	}}
}

// The webhook is registered for resources in exactly the namespaces that are signed, and
// only while the setting is on.
func TestRegister_SelectsTheNamespacesThatAreSigned(t *testing.T) {
	for _, requester := range []config.RequesterMode{config.RequesterOff, config.RequesterRecord, config.RequesterRequired} {
		for _, namespaces := range []config.NamespaceMode{config.NamespacesLabelled, config.NamespacesAll} {
			c := &config.Config{Requester: requester, Namespaces: namespaces}
			got := registered(t, manifestWebhooks(), c)
			if again := registered(t, got, c); len(again) != len(got) {
				t.Errorf("%s, %s: the second time %d webhooks, the first time %d", requester, namespaces, len(again), len(got))
			}
			for _, label := range []map[string]string{nil, {ours.SignLabel: "true"}, {ours.SignLabel: "false"}} {
				calls := callsIn(t, got[1:], label)
				if want := requester != config.RequesterOff && c.Selects(label); (calls == 1) != want || calls > 1 {
					t.Errorf("%s, %s, label %v: %d webhooks, want one: %v", requester, namespaces, label, calls, want)
				}
			}
		}
	}
}

// registered returns the webhooks of register, and checks how the API server reaches them.
func registered(t *testing.T, found []registrationv1.MutatingWebhook, c *config.Config) []registrationv1.MutatingWebhook {
	t.Helper()
	got, err := register(found, c, "account", []byte("CA"))
	if err != nil {
		t.Fatal(err)
	}
	for _, webhook := range got {
		if client := webhook.ClientConfig; string(client.CABundle) != "CA" || client.Service.Port == nil || *client.Service.Port != 7 {
			t.Errorf("%s: authority %q and service %+v, want the service of the manifest", webhook.Name, client.CABundle, client.Service)
		}
	}
	return got
}

// callsIn returns how many of the webhooks are called in a namespace.
func callsIn(t *testing.T, webhooks []registrationv1.MutatingWebhook, label map[string]string) (calls int) {
	t.Helper()
	for _, webhook := range webhooks {
		selector, err := metav1.LabelSelectorAsSelector(webhook.NamespaceSelector)
		if err != nil {
			t.Fatal(err)
		}
		if selector.Matches(labels.Set(label)) {
			calls++
		}
	}
	return calls
}

// Without a usable configuration nothing is switched off: a setting that is refused, and a
// restart of the webhook, must not end what was asked for.
func TestRegister_KeepsRequestersWithoutConfiguration(t *testing.T) {
	on, err := register(manifestWebhooks(), &config.Config{Requester: config.RequesterRecord}, "account", []byte("CA"))
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range [][]registrationv1.MutatingWebhook{on, manifestWebhooks()} {
		got, err := register(found, nil, "account", []byte("new"))
		if err != nil || len(got) != len(found) || string(got[0].ClientConfig.CABundle) != "new" {
			t.Errorf("got %d webhooks and %v, want %d", len(got), err, len(found))
		}
	}
	m := newMutator(&holders{names: "alice"})
	m.config = func() *config.Config { return nil }
	if got := m.Admit(t.Context(), requestOf("v1", "Task", "alice", "", taskIn(`{}`, original))); len(got.Patch) == 0 {
		t.Error("nobody is recorded")
	}
}

// Without the webhooks of the manifest it is not known where the API server reaches us.
func TestRegister_NeedsTheManifest(t *testing.T) {
	if _, err := register(nil, &config.Config{Requester: config.RequesterRequired}, "account", nil); err == nil || !strings.Contains(err.Error(), "apply config/webhook") {
		t.Errorf("got %v", err)
	}
}

func TestWithPrevious_KeepsOneAuthorityThatIsValid(t *testing.T) {
	now := time.Now()
	first, second, third := authority(t, now.Add(time.Hour)), authority(t, now.Add(time.Hour)), authority(t, now.Add(time.Hour))
	expired := authority(t, now.Add(-time.Hour))
	for name, tc := range map[string]struct{ ca, bundle, want []byte }{
		"first":         {first, nil, first},
		"unchanged":     {first, first, first},
		"rotated":       {second, first, slices.Concat(second, first)},
		"stays":         {second, slices.Concat(second, first), slices.Concat(second, first)},
		"rotated twice": {third, slices.Concat(second, first), slices.Concat(third, second)},
		"expired":       {second, expired, second},
		"garbage":       {second, []byte("garbage"), second},
		"without end":   {slices.Concat([]byte("\n"), first[:len(first)-1]), first, first},
	} {
		before := slices.Clone(tc.ca)
		if got := withPrevious(tc.ca, tc.bundle, now); !slices.Equal(got, tc.want) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, tc.want)
		}
		if !slices.Equal(before, tc.ca) {
			t.Errorf("%s: the Secret of the informer was changed", name)
		}
	}
}

func authority(t *testing.T, notAfter time.Time) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: notAfter}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// apiServer answers questions about rights.
type apiServer struct {
	allowed bool
	err     error
	asked   []authorizationv1.SubjectAccessReviewSpec
}

func (a *apiServer) Create(_ context.Context, review *authorizationv1.SubjectAccessReview, _ metav1.CreateOptions) (*authorizationv1.SubjectAccessReview, error) {
	a.asked = append(a.asked, review.Spec)
	review.Status.Allowed = a.allowed
	return review, a.err
}

func TestRights_AsksForTheVerbOnTheResource(t *testing.T) {
	api := &apiServer{allowed: true}
	request := requestOf("v1", "Task", "alice", "", taskIn(stamped, original))
	request.UserInfo.Groups, request.UserInfo.UID = []string{"g"}, "u"
	if may, err := newRights(api).MaySign(t.Context(), request); !may || err != nil {
		t.Errorf("got %v and %v", may, err)
	}
	got := api.asked[0]
	want := authorizationv1.ResourceAttributes{Group: "tekton.dev", Resource: "tasks", Namespace: "ns", Name: "x", Verb: "sign"}
	if *got.ResourceAttributes != want || got.User != "alice" || got.UID != "u" || !slices.Equal(got.Groups, []string{"g"}) {
		t.Errorf("asked %+v", got)
	}
}

// An answer is remembered for the same user, resource and groups, and not for long. No
// answer is not remembered at all.
func TestRights_RemembersAnswersForAShortTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &apiServer{err: errors.New("away")}
		r := newRights(api)
		request := requestOf("v1", "Task", "alice", "", taskIn(stamped, original))
		ask := func(want bool, times int) {
			t.Helper()
			may, _ := r.MaySign(t.Context(), request)
			if may != want || len(api.asked) != times {
				t.Errorf("got %v, the API server was asked %d times; want %v and %d", may, len(api.asked), want, times)
			}
		}
		ask(false, 1)
		api.err, api.allowed = nil, true
		ask(true, 2)
		api.allowed = false
		ask(true, 2)
		request.UserInfo.Groups = []string{"another"}
		ask(false, 3)
		request.UserInfo.Groups = nil
		<-time.After(rightsTTL + time.Second)
		ask(false, 4)
		request.UserInfo.Groups = []string{strings.Repeat("x", maxQuestion)} // too long to be remembered
		ask(false, 5)
		ask(false, 6)
	})
}
