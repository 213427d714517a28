// SPDX-License-Identifier: Apache-2.0

package keys_test

import (
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const (
	fakeARN   = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	fakeAlias = "arn:aws:kms:eu-central-1:111122223333:alias/tekton"
)

// startFakeAWS starts a fake of AWS KMS with one key, and points the client there.
func startFakeAWS(t *testing.T, key fakeKey) (ref string, p *pin) {
	t.Helper()
	p = &pin{name: fakeARN}
	server := httptest.NewServer(fakeAWS{key, p})
	t.Cleanup(server.Close)
	for _, setting := range []string{
		"AWS_ENDPOINT_URL_KMS=" + server.URL, "AWS_REGION=eu-central-1", "AWS_ACCESS_KEY_ID=any", "AWS_SECRET_ACCESS_KEY=any",
		"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_MAX_ATTEMPTS=1",
	} {
		name, value, _ := strings.Cut(setting, "=")
		t.Setenv(name, value)
	}
	return "awskms:///" + fakeARN, p
}

type fakeAWS struct {
	key fakeKey
	pin *pin
}

func (f fakeAWS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var request struct {
		KeyID, SigningAlgorithm string
		Message                 []byte
	}
	action := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil || !f.pin.allows(action, request.KeyID) {
		refuseAWS(w, "NotFoundException")
		return
	}
	var answer map[string]any
	switch action {
	case "GetPublicKey":
		der, err := x509.MarshalPKIXPublicKey(f.key.Public())
		if err != nil {
			refuseAWS(w, err.Error())
			return
		}
		answer = map[string]any{"KeyId": fakeARN, "PublicKey": der, "KeyUsage": "SIGN_VERIFY"}
	case "DescribeKey":
		answer = map[string]any{"KeyMetadata": map[string]any{"KeyId": fakeARN, "Arn": fakeARN, "SigningAlgorithms": []string{f.key.algorithm}}}
	case "Sign":
		signature, err := f.key.sign(request.Message)
		if err != nil || request.SigningAlgorithm != f.key.algorithm {
			refuseAWS(w, "InvalidKeyUsageException")
			return
		}
		answer = map[string]any{"KeyId": fakeARN, "Signature": signature}
	default:
		refuseAWS(w, "UnknownOperationException")
		return
	}
	answerJSON(w, "application/x-amz-json-1.1", answer)
}

func refuseAWS(w http.ResponseWriter, exception string) {
	w.Header().Set("X-Amzn-Errortype", exception)
	http.Error(w, "{}", http.StatusBadRequest)
}

func answerJSON(w http.ResponseWriter, contentType string, answer any) {
	w.Header().Set("Content-Type", contentType)
	_ = json.NewEncoder(w).Encode(answer) // the client reports an answer that is cut off
}
