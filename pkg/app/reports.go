// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"

	openreports "github.com/openreports/reports-api/pkg/client/clientset/versioned/typed/openreports.io/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"knative.dev/pkg/injection"
	"knative.dev/pkg/system"

	"github.com/trusted-resources/chains-extension/pkg/controllers/reports"
	"github.com/trusted-resources/chains-extension/pkg/observe"
)

// reports starts what writes Reports, and makes the emitter give verdicts to it.
func (a *app) reports(ctx context.Context, kube kubernetes.Interface, emitter *observe.Emitter) (*reports.Writer, error) {
	config := injection.GetConfig(ctx)
	client, err := openreports.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	objects, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	w := reports.New(reports.Inputs{
		Client: client, Metadata: objects, Owner: system.Namespace(), Scope: a.options.Namespaces, Emitter: emitter,
		About: func(ctx context.Context) *corev1.ObjectReference { return chainsConfigMap(ctx, kube.CoreV1()) },
	})
	emitter.Report(w)
	go w.Run(ctx)
	return w, nil
}
