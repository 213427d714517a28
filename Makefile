# All programs are built with go. The first build takes about 15 minutes, because
# Kubernetes and Tekton are built from source.
SHELL := /bin/bash
.DEFAULT_GOAL := help

GOLANGCI_LINT := go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
FUZZ_TIME     ?= 20s
COSIGN        ?= go run github.com/sigstore/cosign/v3/cmd/cosign@v3.1.3

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Show signing, acceptance by Tekton and refusal after tampering on a real control plane
	go run ./test/devcluster demo

.PHONY: build
build: ## Build the controller and tkn-trust into bin/
	go build -o bin/ ./cmd/...

.PHONY: release
release: ## Make a release into dist/: VERSION=v0.x.y [REPOSITORY=registry/path] [KEY=cosign.key]; see docs/release.md
	go run -C release . --source "$(CURDIR)" --version "$(VERSION)" --repository "$(REPOSITORY)" --key "$(KEY)" \
		--cosign "$(COSIGN)" $(if $(BUILDER),--builder "$(BUILDER)")

# Not part of test: it compiles all programs for all platforms.
.PHONY: release-test
release-test: binaries ## Make a release twice and check it with cosign, sha256sum and a real API server
	go test -timeout 60m -count 1 -v -tags release ./test/release

# The packages that need no cluster, registry process or tool.
UNIT_PACKAGES := ./cmd/... ./pkg/...

.PHONY: unit
unit: ## Run the tests of all packages that need no cluster (seconds for a changed package; 100 s without cached results)
	go test $(UNIT_PACKAGES)

# The end-to-end tests run in two processes, each with a cluster of its own: for half of its
# time, such a test waits. This one has the tests of the gate, of the requester, of keys and of
# policies for the cluster.
E2E_GATE_AND_KEYS := ^Test(Admission|ClusterPolicy|Gate|Guards|Key|Materialized|Operations|Requester|Webhook)

.PHONY: test
test: binaries ## Run all tests, also those on a real control plane
	$(MAKE) -k -j2 test-packages test-e2e-gate-and-keys test-e2e-others
	cd test/localcluster && go test -timeout 20m ./...
	cd release && go test ./...
	cd test/monitoring && go test ./...

.PHONY: test-packages test-e2e-gate-and-keys test-e2e-others
test-packages:
	go test -timeout 60m $$(go list ./... | grep -v '/test/e2e$$')
test-e2e-gate-and-keys:
	go test -timeout 60m -run '$(E2E_GATE_AND_KEYS)' ./test/e2e
test-e2e-others:
	go test -timeout 60m -skip '$(E2E_GATE_AND_KEYS)' ./test/e2e

.PHONY: race
race: race-unit race-e2e ## Run the unit tests, and the end-to-end tests against a controller, with the race detector

.PHONY: race-unit
race-unit: ## Run the unit tests with the race detector
	go test -race -timeout 30m $(UNIT_PACKAGES)

# Each end-to-end test fails if a controller reports a data race in its log.
.PHONY: race-e2e
race-e2e: binaries
	E2E_RACE=1 go test -count 1 -timeout 80m ./test/e2e

# The tests need root and Debian packages (localcluster packages names them), which the
# first step installs if it may. Without root or apt-get, an error names the packages.
.PHONY: e2e
e2e: real-binaries ## Run the tests on real nodes: kubelet, containers, our image, docs/install.md block by block
	cd test/localcluster && go test -timeout 10m -count 1 -tags realnode -run RealNode ./cmd/localcluster
	go test -timeout 40m -count 1 -v -tags realnode ./test/realnode

.PHONY: e2e-story
e2e-story: real-binaries ## The shortest of these tests: our image signs, a container runs, a changed Task is refused, a node is drained
	go test -timeout 20m -count 1 -tags realnode -run 'TestStory|TestImage|TestDrain' ./test/realnode

.PHONY: e2e-memory
e2e-memory: real-binaries ## Sign 20,000 Tasks on real nodes and compare the memory with the limit of the Deployment
	go test -timeout 40m -count 1 -v -tags realnode,memory -run TestMemory ./test/realnode

.PHONY: real-binaries
real-binaries: ## Install and build what the tests on real nodes need
	go run ./test/devcluster build-real

# Not part of test: the first build of Vault takes 9 minutes of CPU time.
.PHONY: test-kms
test-kms: binaries vault ## Run the tests that need a KMS: HashiCorp Vault, built from its Go module
	cd test/harness/vault && go mod tidy -diff
	go test -timeout 20m -count 1 -tags kms -run 'KMS|OnVault' ./pkg/keys ./pkg/policy ./test/harness ./test/e2e

# Not part of test: takes two hours, most of which are rotations that wait for runs.
.PHONY: test-rotation
test-rotation: binaries vault ## Rotate keys in danger: under load, with faults, killed leaders, an absent Vault, controllers without a check
	go test -timeout 180m -count 1 -v -tags kms,rotation -run TestRotation_ ./test/e2e

# Not part of test: the first build of Prometheus takes 10 minutes of CPU time.
.PHONY: test-monitoring
test-monitoring: binaries ## Let a real Prometheus scrape the controller: each alert fires and resolves, each panel shows something
	cd test/monitoring && go test -timeout 20m -count 1 ./...
	go test -timeout 40m -count 1 -v -tags monitoring -run 'TestMonitoring|TestShortened' ./test/e2e

.PHONY: vault
vault: ## Build the KMS for test-kms and test-rotation
	go build -C test/harness/vault -o ../../../.localcluster/bin/vault .

# Not part of test: it builds three releases of Tekton and an API server, and takes about 15 minutes without that.
.PHONY: matrix
matrix: binaries ## Run the tests with older releases of Tekton and Kubernetes, each built from its own Go module
	cd test/tektonreleases/checksums && for file in *.mod; do go mod tidy -diff -modfile $$file || exit 1; done
	go test -timeout 90m -count 1 -v -tags matrix -run 'Checksums' ./test/tektonreleases
	go test -timeout 90m -count 1 -v -tags matrix ./test/matrix

# The binaries are built first, so that no test waits for a compiler.
.PHONY: binaries
binaries: ## Build the control plane and the tools that tests run
	go run ./test/devcluster build

.PHONY: lint
lint: ## Run golangci-lint
	$(GOLANGCI_LINT) run --allow-parallel-runners ./...
	cd test/localcluster && $(GOLANGCI_LINT) run --allow-parallel-runners --config ../../.golangci.yaml ./...
	cd release && $(GOLANGCI_LINT) run --allow-parallel-runners --config ../.golangci.yaml ./...
	cd test/monitoring && $(GOLANGCI_LINT) run --allow-parallel-runners --config ../../.golangci.yaml ./...

CONTROLLER_GEN := go run sigs.k8s.io/controller-tools/cmd/controller-gen@v0.23.0

.PHONY: generate
generate: ## Write the generated code, the CustomResourceDefinitions, the dashboards and the PrometheusRule
	$(CONTROLLER_GEN) object:headerFile=pkg/apis/header.txt crd paths=./pkg/apis/... output:crd:dir=config
	mv config/trustedresources.tekton.dev_keyrings.yaml config/101-keyrings.yaml
	mv config/trustedresources.tekton.dev_clusterverificationpolicies.yaml config/101-clusterverificationpolicies.yaml
	go run -C test/monitoring ./generate

.PHONY: verify
verify: ## Check that go.mod, formatting and licence headers need no change
	go mod tidy -diff
	cd test/localcluster && go mod tidy -diff
	cd release && go mod tidy -diff
	cd test/monitoring && go mod tidy -diff
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
	if [ -n "$$unformatted" ]; then echo "not formatted, run gofmt -w on: $$unformatted"; exit 1; fi
	@$(MAKE) -s generate
	@if ! git diff --exit-code -- 'config/101-*.yaml' config/monitoring pkg/apis; then echo "generated files were old, and are written now: commit them"; exit 1; fi
	@if grep -qE '^(replace|exclude)' go.mod; then echo "go.mod has replace or exclude lines: go install of cmd/tkn-trust refuses them"; exit 1; fi
	@unlicensed=$$(git grep -L 'SPDX-License-Identifier: Apache-2.0' -- '*.go'); \
	if [ -n "$$unlicensed" ]; then echo "without an SPDX licence header: $$unlicensed"; exit 1; fi

.PHONY: fuzz
fuzz: ## Fuzz all readers of untrusted input, FUZZ_TIME each
	go test -run '^$$' -fuzz '^FuzzParse$$' -fuzztime $(FUZZ_TIME) ./pkg/config
	go test -run '^$$' -fuzz '^FuzzAllowKMS$$' -fuzztime $(FUZZ_TIME) ./pkg/config
	go test -run '^$$' -fuzz '^FuzzDecide$$' -fuzztime $(FUZZ_TIME) ./pkg/admission
	go test -run '^$$' -fuzz '^FuzzAdmit$$' -fuzztime $(FUZZ_TIME) ./pkg/webhook
	go test -run '^$$' -fuzz '^FuzzSignature$$' -fuzztime $(FUZZ_TIME) ./pkg/resource
	go test -run '^$$' -fuzz '^FuzzContent$$' -fuzztime $(FUZZ_TIME) -fuzzminimizetime 10x ./pkg/resource
	go test -run '^$$' -fuzz '^FuzzKeyFiles$$' -fuzztime $(FUZZ_TIME) ./pkg/keys
	go test -run '^$$' -fuzz '^FuzzPattern$$' -fuzztime $(FUZZ_TIME) ./pkg/policy
	go test -run '^$$' -fuzz '^FuzzVerdict$$' -fuzztime $(FUZZ_TIME) ./pkg/policy
	go test -run '^$$' -fuzz '^FuzzDecode$$' -fuzztime $(FUZZ_TIME) ./pkg/clusterpolicy
	go test -run '^$$' -fuzz '^FuzzRequestContent$$' -fuzztime $(FUZZ_TIME) -fuzzminimizetime 10x ./pkg/dependencies
	go test -run '^$$' -fuzz '^FuzzStepAction$$' -fuzztime $(FUZZ_TIME) -fuzzminimizetime 10x ./pkg/dependencies
	go test -run '^$$' -fuzz '^FuzzLocal$$' -fuzztime $(FUZZ_TIME) -fuzzminimizetime 10x ./pkg/dependencies
	go test -run '^$$' -fuzz '^FuzzSizes$$' -fuzztime $(FUZZ_TIME) -fuzzminimizetime 10x ./pkg/dependencies
	go test -run '^$$' -fuzz '^FuzzStepActionSizes$$' -fuzztime $(FUZZ_TIME) -fuzzminimizetime 10x ./pkg/dependencies
	go test -run '^$$' -fuzz '^FuzzClusterURI$$' -fuzztime $(FUZZ_TIME) ./pkg/dependencies
	go test -run '^$$' -fuzz '^FuzzEntries$$' -fuzztime $(FUZZ_TIME) -fuzzminimizetime 10x ./pkg/oci/tektonbundle
	go test -run '^$$' -fuzz '^FuzzEntryResource$$' -fuzztime $(FUZZ_TIME) -fuzzminimizetime 10x ./pkg/oci/tektonbundle
	go test -run '^$$' -fuzz '^FuzzSigstoreBundle$$' -fuzztime $(FUZZ_TIME) -fuzzminimizetime 10x ./pkg/oci/imagesignature
	go test -run '^$$' -fuzz '^FuzzRetryAfter$$' -fuzztime $(FUZZ_TIME) ./pkg/oci/registry
	go test -run '^$$' -fuzz '^FuzzLocation$$' -fuzztime $(FUZZ_TIME) -fuzzminimizetime 10x ./pkg/store/oci
	go test -run '^$$' -fuzz '^FuzzAnnotate$$' -fuzztime $(FUZZ_TIME) -fuzzminimizetime 10x ./pkg/attestation
	go test -run '^$$' -fuzz '^FuzzValidateKMS$$' -fuzztime $(FUZZ_TIME) ./pkg/keys
	go test -run '^$$' -fuzz '^FuzzVerify$$' -fuzztime $(FUZZ_TIME) -fuzzminimizetime 10x ./pkg/audit
	go test -run '^$$' -fuzz '^FuzzNext$$' -fuzztime $(FUZZ_TIME) ./pkg/keyring

.PHONY: bench
bench: ## Measure latency, throughput, memory, verification and storage; ARGS="--memory" selects a part, ARGS="--gate" measures the gate, ARGS="--rotation" measures rotations of a KeyRing, ARGS="--soak" runs hostile tenants for 30 minutes
	go run ./test/bench $(ARGS)

.PHONY: cluster-up
cluster-up: ## Start a cluster with the controller and leave it running
	go run ./test/devcluster up

.PHONY: cluster-down
cluster-down: ## Stop that cluster and remove its data
	go run ./test/devcluster down

.PHONY: run
run: ## Run the controller in the foreground against that cluster, instead of its own
	go run ./test/devcluster run
