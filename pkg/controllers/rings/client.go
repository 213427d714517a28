// SPDX-License-Identifier: Apache-2.0

package rings

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/gentype"
	"k8s.io/client-go/rest"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// Client reads and writes the KeyRings of the controller's namespace.
type Client interface {
	Get(ctx context.Context, name string, o metav1.GetOptions) (*v1alpha1.KeyRing, error)
	List(ctx context.Context, o metav1.ListOptions) (*v1alpha1.KeyRingList, error)
	UpdateStatus(ctx context.Context, ring *v1alpha1.KeyRing, o metav1.UpdateOptions) (*v1alpha1.KeyRing, error)
}

// Clients is a Client that also changes specs, for commands.
type Clients interface {
	Client
	Create(ctx context.Context, ring *v1alpha1.KeyRing, o metav1.CreateOptions) (*v1alpha1.KeyRing, error)
	Update(ctx context.Context, ring *v1alpha1.KeyRing, o metav1.UpdateOptions) (*v1alpha1.KeyRing, error)
	Delete(ctx context.Context, name string, o metav1.DeleteOptions) error
}

// NewClient returns a client for the KeyRings of a namespace.
func NewClient(config *rest.Config, namespace string) (Clients, error) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	config = rest.CopyConfig(config)
	config.GroupVersion = &v1alpha1.SchemeGroupVersion
	config.APIPath = "/apis"
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	config.ContentType = runtime.ContentTypeJSON
	client, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, err
	}
	return gentype.NewClientWithList("keyrings", client, runtime.NewParameterCodec(scheme), namespace,
		func() *v1alpha1.KeyRing { return &v1alpha1.KeyRing{} },
		func() *v1alpha1.KeyRingList { return &v1alpha1.KeyRingList{} }), nil
}
