// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"crypto/rand"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/realnode"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/state"
)

const (
	admin         = "admin"
	kwokUser      = "kwok"
	mastersGroup  = "system:masters"
	managerUser   = "system:kube-controller-manager"
	schedulerUser = "system:kube-scheduler"
)

// user is a user with a static token, and its group in the API server's built-in roles.
type user struct{ name, group string }

var users = allUsers()

func allUsers() []user {
	parts := []user{{admin, mastersGroup}, {kwokUser, mastersGroup}, {managerUser, ""}, {schedulerUser, ""}}
	all := append(make([]user, 0, len(parts)+maxRealNodes), parts...)
	for number := range maxRealNodes {
		name, group := realnode.New("", number+1).User()
		all = append(all, user{name, group})
	}
	return all
}

// ensureTokens returns the token of each user from the API server's token file. It adds the users that the file does
// not have.
func ensureTokens(file string) (map[string]string, error) {
	rows, err := readTokens(file)
	if err != nil {
		return nil, err
	}
	tokens := map[string]string{}
	for _, row := range rows {
		tokens[row[1]] = row[0]
	}
	for _, u := range users {
		if tokens[u.name] != "" {
			continue
		}
		tokens[u.name] = rand.Text()
		rows = append(rows, []string{tokens[u.name], u.name, u.name, u.group}) // token, user, UID, groups
	}
	var b strings.Builder
	if err := csv.NewWriter(&b).WriteAll(rows); err != nil {
		return nil, err
	}
	return tokens, state.WriteFile(file, []byte(b.String()))
}

// readTokens returns the rows of a token file, and none if there is no such file.
func readTokens(file string) ([][]string, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	rows, err := csv.NewReader(strings.NewReader(string(data))).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("token file %s: %w", file, err)
	}
	return rows, nil
}

// Kubeconfig returns the text of a kubeconfig for a user with a bearer token.
func Kubeconfig(server string, ca []byte, user, token string) ([]byte, error) {
	const name = "localcluster"
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters[name] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: ca}
	cfg.AuthInfos[user] = &clientcmdapi.AuthInfo{Token: token}
	cfg.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: user}
	cfg.CurrentContext = name
	return clientcmd.Write(*cfg)
}

// ServiceAccountKubeconfig returns the text of a kubeconfig for a service account, with a token that the API
// server issues for the given time.
func ServiceAccountKubeconfig(ctx context.Context, cfg *rest.Config, namespace, name string, validFor time.Duration) ([]byte, error) {
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	seconds := int64(validFor.Seconds())
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
	answer, err := client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name, request, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("request a token for ServiceAccount %s/%s: %w", namespace, name, err)
	}
	return Kubeconfig(cfg.Host, cfg.CAData, "system:serviceaccount:"+namespace+":"+name, answer.Status.Token)
}

// RESTConfig reads a kubeconfig. Clients of this configuration do not limit their request rate.
func RESTConfig(kubeconfig string) (*rest.Config, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	cfg.QPS = -1
	cfg.UserAgent = "localcluster"
	return cfg, nil
}
