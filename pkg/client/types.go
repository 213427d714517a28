// SPDX-License-Identifier: Apache-2.0

// Package client has the clients of this project's own types, and the connection of
// commands to a cluster.
package client

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/gentype"
	"k8s.io/client-go/rest"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// KeyRings reads and writes the KeyRings of a namespace.
type KeyRings = gentype.ClientWithList[*v1alpha1.KeyRing, *v1alpha1.KeyRingList]

// NewKeyRings returns a client for the KeyRings of a namespace.
func NewKeyRings(config *rest.Config, namespace string) (*KeyRings, error) {
	client, parameters, err := newClient(config)
	if err != nil {
		return nil, err
	}
	return gentype.NewClientWithList("keyrings", client, parameters, namespace,
		func() *v1alpha1.KeyRing { return &v1alpha1.KeyRing{} },
		func() *v1alpha1.KeyRingList { return &v1alpha1.KeyRingList{} }), nil
}

// ClusterPolicies reads and writes ClusterVerificationPolicies.
type ClusterPolicies = gentype.ClientWithList[*v1alpha1.ClusterVerificationPolicy, *v1alpha1.ClusterVerificationPolicyList]

// NewClusterPolicies returns a client for ClusterVerificationPolicies.
func NewClusterPolicies(config *rest.Config) (*ClusterPolicies, error) {
	client, parameters, err := newClient(config)
	if err != nil {
		return nil, err
	}
	return gentype.NewClientWithList("clusterverificationpolicies", client, parameters, "",
		func() *v1alpha1.ClusterVerificationPolicy { return &v1alpha1.ClusterVerificationPolicy{} },
		func() *v1alpha1.ClusterVerificationPolicyList { return &v1alpha1.ClusterVerificationPolicyList{} }), nil
}

func newClient(config *rest.Config) (rest.Interface, runtime.ParameterCodec, error) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, nil, err
	}
	config = rest.CopyConfig(config)
	config.GroupVersion = &v1alpha1.SchemeGroupVersion
	config.APIPath = "/apis"
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	config.ContentType = runtime.ContentTypeJSON
	client, err := rest.RESTClientFor(config)
	return client, runtime.NewParameterCodec(scheme), err
}
