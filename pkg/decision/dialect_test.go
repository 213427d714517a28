// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/sigstore/sigstore/pkg/cryptoutils"

	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
	"github.com/trusted-resources/chains-extension/test/fixtures"
)

func release(version string) tekton.Release {
	return tekton.ReleaseOf(map[string]string{"version": version})
}

var older, newer = release("v1.9.3"), release("v1.15.0")

// After an upgrade or downgrade of Tekton across v1.10, a signature that this
// controller made before is recognised and made again.
func TestDecide_SignsAgainForAnotherTekton(t *testing.T) {
	for name, tc := range map[string]struct{ before, after tekton.Release }{
		"upgrade":   {older, newer},
		"downgrade": {newer, older},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSigner(t)
			s.release = tc.before
			obj := task("t")
			s.sign(obj)
			if d := s.decide(obj, noAuthorities); d.Action != Leave || d.Reason != SignedByActiveKey || d.Dialect != tc.before.Dialect() {
				t.Errorf("before: got %+v, want Leave", d)
			}
			s.release = tc.after
			d := s.decide(obj, noAuthorities)
			if d.Action != Sign || d.Reason != TektonChanged || d.Overwrites || d.Dialect != tc.after.Dialect() {
				t.Errorf("after: got %+v, want Sign because of Tekton", d)
			}
			s.rotate() // and the key changes, too
			if d := s.decide(obj, noAuthorities); d.Action != Sign || d.Reason != TektonChanged || d.Overwrites {
				t.Errorf("after a rotation: got %+v, want Sign because of Tekton", d)
			}
		})
	}
}

// A revoked key stays revoked, whatever release of Tekton its signature is for.
func TestDecide_KeepsSignaturesOfRevokedKeysForAnotherTekton(t *testing.T) {
	s := newSigner(t)
	s.release = older
	obj := task("t")
	s.sign(obj)
	stolen, err := cryptoutils.MarshalPublicKeyToPEM(s.public)
	if err != nil {
		t.Fatal(err)
	}
	next, _, err := fixtures.X509Secret()
	if err != nil {
		t.Fatal(err)
	}
	next["revoked-1.pub"] = stolen
	if err := next.Write(s.dir); err != nil {
		t.Fatal(err)
	}
	s.release = newer
	if d := s.decide(obj, noAuthorities); d.Action != Wait || d.Reason != KeyRevoked || !errors.Is(d.Err, ErrKeyRevoked) {
		t.Errorf("got %+v, want Wait with ErrKeyRevoked", d)
	}
}

// over authorizes signatures over one checksum only.
type over []byte

func (o over) Authorizes(_ context.Context, _, checksum []byte) (bool, error) {
	return bytes.Equal(o, checksum), nil
}

// Only the authority can make its signature again, so the signature is kept although
// the installed release refuses it.
func TestDecide_KeepsSignaturesOfAuthoritiesForAnotherTekton(t *testing.T) {
	s, author := newSigner(t), newSigner(t)
	author.release = older
	obj := task("t")
	author.sign(obj)
	checksums := must(resource.ChecksumsOf(t.Context(), obj))
	s.release = newer
	trusting := over(checksums.In(older.Dialect()))
	if d := s.decide(obj, trusting); d.Action != Wait || d.Reason != SignedForOtherTekton || !errors.Is(d.Err, ErrOtherTekton) || d.Overwrites {
		t.Errorf("got %+v, want Wait with ErrOtherTekton", d)
	}
	s.release = older
	if d := s.decide(obj, trusting); d.Action != Leave || d.Reason != SignedByAuthority {
		t.Errorf("for the release of the signature: got %+v, want Leave", d)
	}
	if d := s.decide(obj, over("of another content")); d.Action != Sign || d.Reason != ContentChanged || !d.Overwrites {
		t.Errorf("for no authority: got %+v, want Sign", d)
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
