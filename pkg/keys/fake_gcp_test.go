// SPDX-License-Identifier: Apache-2.0

package keys_test

import (
	"context"
	"errors"
	"hash/crc32"
	"net"
	"testing"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/kms/gcp"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	fakeGCPKey     = "projects/p/locations/global/keyRings/r/cryptoKeys/tekton"
	fakeGCPVersion = fakeGCPKey + "/cryptoKeyVersions/2"
)

// startFakeGCP starts a fake of Google Cloud KMS with one version of a key. The options
// point the client there.
func startFakeGCP(t *testing.T, key fakeKey) (ref string, p *pin, opts []signature.RPCOption) {
	t.Helper()
	p = &pin{name: fakeGCPVersion}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	check(t, err)
	server := grpc.NewServer()
	kmspb.RegisterKeyManagementServiceServer(server, &fakeGCP{key: key, pin: p})
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	})
	for _, opt := range []option.ClientOption{
		option.WithEndpoint(listener.Addr().String()), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
	} {
		opts = append(opts, gcp.WithGoogleAPIClientOption(opt))
	}
	return "gcpkms://" + fakeGCPVersion, p, opts
}

type fakeGCP struct {
	kmspb.UnimplementedKeyManagementServiceServer

	key fakeKey
	pin *pin
}

func (f *fakeGCP) allow(call, name string) error {
	if !f.pin.allows(call, name) {
		return status.Error(codes.NotFound, name)
	}
	return nil
}

// GetCryptoKey names no version, and is not a use of a version: sigstore's client asks
// whether keys of this kind sign at all.
func (f *fakeGCP) GetCryptoKey(_ context.Context, r *kmspb.GetCryptoKeyRequest) (*kmspb.CryptoKey, error) {
	if r.GetName() != fakeGCPKey {
		return nil, status.Error(codes.NotFound, r.GetName())
	}
	return &kmspb.CryptoKey{Name: r.GetName(), Purpose: kmspb.CryptoKey_ASYMMETRIC_SIGN}, nil
}

// ListCryptoKeyVersions is how a client finds the latest version.
func (f *fakeGCP) ListCryptoKeyVersions(_ context.Context, r *kmspb.ListCryptoKeyVersionsRequest) (*kmspb.ListCryptoKeyVersionsResponse, error) {
	return nil, f.allow("ListCryptoKeyVersions", r.GetParent())
}

func (f *fakeGCP) GetCryptoKeyVersion(_ context.Context, r *kmspb.GetCryptoKeyVersionRequest) (*kmspb.CryptoKeyVersion, error) {
	if err := f.allow("GetCryptoKeyVersion", r.GetName()); err != nil {
		return nil, err
	}
	algorithm := kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm(kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm_value[f.key.algorithm])
	return &kmspb.CryptoKeyVersion{Name: r.GetName(), Algorithm: algorithm, State: kmspb.CryptoKeyVersion_ENABLED}, nil
}

func (f *fakeGCP) GetPublicKey(_ context.Context, r *kmspb.GetPublicKeyRequest) (*kmspb.PublicKey, error) {
	if err := f.allow("GetPublicKey", r.GetName()); err != nil {
		return nil, err
	}
	pem, err := cryptoutils.MarshalPublicKeyToPEM(f.key.Public())
	return &kmspb.PublicKey{Name: r.GetName(), Pem: string(pem)}, err
}

func (f *fakeGCP) AsymmetricSign(_ context.Context, r *kmspb.AsymmetricSignRequest) (*kmspb.AsymmetricSignResponse, error) {
	if err := f.allow("AsymmetricSign", r.GetName()); err != nil {
		return nil, err
	}
	digest := map[int][]byte{
		32: r.GetDigest().GetSha256(), 48: r.GetDigest().GetSha384(), 64: r.GetDigest().GetSha512(),
	}[f.key.hash.Size()]
	signature, err := f.key.sign(digest)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	checksum := int64(crc32.Checksum(signature, crc32.MakeTable(crc32.Castagnoli)))
	return &kmspb.AsymmetricSignResponse{Name: r.GetName(), Signature: signature, SignatureCrc32C: wrapperspb.Int64(checksum), VerifiedDigestCrc32C: true}, nil
}
