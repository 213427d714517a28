// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"os"
	"time"

	"go.uber.org/zap"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/pkg/auditlog"
	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/pkg/version"
)

const (
	// actorTimeout bounds the question who the controller is.
	actorTimeout = 10 * time.Second
	// auditCloseTimeout bounds how long the end of the process waits for the audit log.
	auditCloseTimeout = 5 * time.Second
)

// newAuditLog returns the audit log, and makes the emitter write to it.
func newAuditLog(ctx context.Context, kube kubernetes.Interface, emitter *observe.Emitter, key func() (*keys.Key, error)) *auditlog.Log {
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	log := auditlog.New(ctx, auditlog.Options{
		Version: version.String(), Host: host, Actor: actor(ctx, kube), Key: key, Reporter: emitter, Clock: clock.RealClock{},
	})
	emitter.Audit(ctx, log)
	return log
}

// actor returns the user of this process as the API server knows it; "" if the API server
// does not say.
func actor(ctx context.Context, kube kubernetes.Interface) string {
	ctx, cancel := context.WithTimeout(ctx, actorTimeout)
	defer cancel()
	review, err := kube.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		logging.FromContext(ctx).Warnw("The API server does not say who this controller is, so audit records name no actor", zap.Error(err))
		return ""
	}
	return review.Status.UserInfo.Username
}

// auditSettings returns the settings of the audit log.
func auditSettings(c *config.Config) auditlog.Settings {
	a := &c.Audit
	settings := auditlog.Settings{Stdout: a.Has(config.AuditStdout), Block: a.Block}
	if a.Has(config.AuditFile) {
		settings.File = auditlog.FileSettings{Path: a.File, MaxSize: a.MaxSize, MaxBackups: a.MaxBackups}
	}
	if a.Has(config.AuditWebhook) {
		settings.WebhookURL = a.WebhookURL
	}
	return settings
}

// closeAudit ends the audit log after the controllers.
func (a *app) closeAudit(ctx context.Context) {
	if a.shared == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditCloseTimeout)
	defer cancel()
	a.shared.audit.Close(ctx)
}
