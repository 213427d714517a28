// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"crypto/tls"
	_ "embed" // the audit policy
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/build"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/pki"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/proc"
)

//go:embed assets/audit-policy.yaml
var auditPolicy []byte

// issuer is the issuer of service account tokens. It contains no port, so tokens stay valid when ports change.
const issuer = "https://kubernetes.default.svc"

// minVersion makes Knative-based clients accept the version that the API server reports.
const (
	minVersionVariable = "KUBERNETES_MIN_VERSION"
	minVersionValue    = "v0.0.0"
	minVersion         = minVersionVariable + "=" + minVersionValue
)

// controllers are the controllers of kube-controller-manager that each cluster needs. The controllers for nodes and
// volumes are off. Those for workloads depend on the kind of the nodes.
var controllers = []string{
	"clusterrole-aggregation-controller",
	"garbage-collector-controller",
	"namespace-controller",
	"root-ca-certificate-publisher-controller",
	"serviceaccount-controller",
	"serviceaccount-token-controller",
	"statefulset-controller", // for Tekton's affinity assistants
	"validatingadmissionpolicy-status-controller",
}

// controlPlane builds the specs of the Kubernetes processes.
type controlPlane struct {
	layout Layout
	bin    func(string) string
	ports  Ports
	pki    pki.Files
	tls    *tls.Config
	kind   NodeKind
}

func (c controlPlane) spec(name string, ready readyFunc, args ...string) proc.Spec {
	return proc.Spec{
		Name: name, Path: c.bin(name), Args: args, Dir: c.layout.Dir, LogFile: c.layout.Log(name), Ready: ready,
	}
}

func (c controlPlane) url(listener string) string { return "https://" + c.ports.address(listener) }

func (c controlPlane) etcd() proc.Spec {
	client, peer := c.url("etcd"), c.url("etcd-peer")
	return c.spec(build.Etcd, httpReady(client+"/health", c.tls),
		"--name=localcluster",
		"--data-dir="+c.layout.etcdData(),
		// Without fsync, writes are several times faster. The data then survives the end of a process but not
		// a power failure, which is enough for a temporary cluster.
		"--unsafe-no-fsync",
		"--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--cert-file="+c.pki.ServingCert, "--key-file="+c.pki.ServingKey,
		"--client-cert-auth", "--trusted-ca-file="+c.pki.CA,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=localcluster="+peer,
		"--peer-cert-file="+c.pki.ServingCert, "--peer-key-file="+c.pki.ServingKey,
		"--peer-client-cert-auth", "--peer-trusted-ca-file="+c.pki.CA,
		"--log-level=warn",
	)
}

func (c controlPlane) apiServer(version string) proc.Spec {
	return c.spec(build.APIServer, httpReady(c.url("kube-apiserver")+"/readyz", c.tls), append([]string{
		// Without build flags, the server reports a placeholder version that clients cannot parse. This flag
		// can only add a suffix to the version; see minVersion for clients that compare versions.
		"--version=v0.0.0-" + strings.TrimPrefix(version, "v"),
		"--bind-address=127.0.0.1",
		"--advertise-address=127.0.0.1",
		"--secure-port=" + strconv.Itoa(c.ports["kube-apiserver"]),
		"--tls-cert-file=" + c.pki.ServingCert, "--tls-private-key-file=" + c.pki.ServingKey,
		"--etcd-servers=" + c.url("etcd"),
		"--etcd-cafile=" + c.pki.CA, "--etcd-certfile=" + c.pki.EtcdCert, "--etcd-keyfile=" + c.pki.EtcdKey,
		"--service-cluster-ip-range=10.96.0.0/16",
		// The endpoints of the Service kubernetes must not be loopback addresses, and no part needs them.
		"--endpoint-reconciler-type=none",
		"--authorization-mode=Node,RBAC",
		"--token-auth-file=" + c.layout.tokens(),
		"--service-account-issuer=" + issuer,
		"--service-account-signing-key-file=" + c.pki.ServiceAccountKey,
		"--service-account-key-file=" + c.pki.ServiceAccountKeyVerifier,
		// The plugin taints new nodes. Only the node lifecycle controller, which does not run, removes the taint.
		"--disable-admission-plugins=TaintNodesByCondition",
		"--allow-privileged",
		"--profiling=false",
		// After SIGTERM, close watches at once instead of waiting a minute for the clients.
		"--shutdown-send-retry-after",
		"--audit-policy-file=" + c.layout.auditPolicy(),
		"--audit-log-path=" + c.layout.Log("audit"),
		"--audit-log-maxsize=0", // one file, never rotated
	}, c.kind.apiServerFlags(c)...)...)
}

func (c controlPlane) controllerManager() proc.Spec {
	return c.spec(build.ControllerManager, httpReady(c.url("kube-controller-manager")+"/healthz", c.tls),
		"--bind-address=127.0.0.1",
		"--secure-port="+strconv.Itoa(c.ports["kube-controller-manager"]),
		"--tls-cert-file="+c.pki.ServingCert, "--tls-private-key-file="+c.pki.ServingKey,
		"--kubeconfig="+c.layout.identity(managerUser),
		"--leader-elect=false",
		"--use-service-account-credentials", // the built-in RBAC roles expect one identity per controller
		"--controllers="+strings.Join(slices.Concat(controllers, c.kind.controllers), ","),
		"--service-account-private-key-file="+c.pki.ServiceAccountKey,
		"--root-ca-file="+c.pki.CA,
		"--profiling=false",
	)
}

func (c controlPlane) scheduler() proc.Spec {
	return c.spec(build.Scheduler, httpReady(c.url("kube-scheduler")+"/healthz", c.tls),
		"--bind-address=127.0.0.1",
		"--secure-port="+strconv.Itoa(c.ports["kube-scheduler"]),
		"--tls-cert-file="+c.pki.ServingCert, "--tls-private-key-file="+c.pki.ServingKey,
		"--kubeconfig="+c.layout.identity(schedulerUser),
		"--leader-elect=false",
		"--profiling=false",
	)
}

// stopQuickly is how long each part may take to end before it is killed when the whole cluster stops.
const stopQuickly = 2 * time.Second
