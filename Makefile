# Everything is built with go and nothing but; the first build takes about 15
# minutes, because Kubernetes and Tekton are built from source.
SHELL := /bin/bash
.DEFAULT_GOAL := help

GOLANGCI_LINT := go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
FUZZ_TIME     ?= 20s

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Show it all on a real control plane: signed, accepted by Tekton, refused when tampered with
	go run ./test/devcluster demo

.PHONY: build
build: ## Build the controller and tkn-trust into bin/
	go build -o bin/ ./cmd/...

.PHONY: test
test: binaries ## Run all tests, those on a real control plane included
	go test -timeout 40m ./...
	cd test/localcluster && go test -timeout 20m ./...

# Not part of test: Vault takes 9 minutes of CPU time to build, once.
.PHONY: test-kms
test-kms: binaries vault ## Run the tests that take a KMS: HashiCorp Vault, built from its Go module
	cd test/harness/vault && go mod tidy -diff
	go test -timeout 20m -count 1 -tags kms -run KMS ./pkg/policy ./test/harness ./test/e2e

.PHONY: vault
vault: ## Build the KMS for test-kms
	go build -C test/harness/vault -o ../../../.localcluster/bin/vault .

# The binaries come first, so that no test waits for a compiler.
.PHONY: binaries
binaries: ## Build the control plane and the tools that tests run
	go run ./test/devcluster build

.PHONY: lint
lint: ## Run golangci-lint
	$(GOLANGCI_LINT) run --allow-parallel-runners ./...
	cd test/localcluster && $(GOLANGCI_LINT) run --allow-parallel-runners --config ../../.golangci.yaml ./...

.PHONY: verify
verify: ## Check that go.mod and formatting are what the tools would make of them
	go mod tidy -diff
	cd test/localcluster && go mod tidy -diff
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
	if [ -n "$$unformatted" ]; then echo "not formatted, run gofmt -w on: $$unformatted"; exit 1; fi

.PHONY: fuzz
fuzz: ## Fuzz what reads untrusted input, FUZZ_TIME each
	go test -run '^$$' -fuzz FuzzParse -fuzztime $(FUZZ_TIME) ./pkg/config
	go test -run '^$$' -fuzz FuzzSignature -fuzztime $(FUZZ_TIME) ./pkg/resource
	go test -run '^$$' -fuzz FuzzKeyFiles -fuzztime $(FUZZ_TIME) ./pkg/keys
	go test -run '^$$' -fuzz FuzzPattern -fuzztime $(FUZZ_TIME) ./pkg/policy
	go test -run '^$$' -fuzz FuzzVerdict -fuzztime $(FUZZ_TIME) ./pkg/policy
	go test -run '^$$' -fuzz FuzzRequestContent -fuzztime $(FUZZ_TIME) -fuzzminimizetime 10x ./pkg/dependencies
	go test -run '^$$' -fuzz FuzzStepAction -fuzztime $(FUZZ_TIME) -fuzzminimizetime 10x ./pkg/dependencies
	go test -run '^$$' -fuzz FuzzLocal -fuzztime $(FUZZ_TIME) -fuzzminimizetime 10x ./pkg/dependencies
	go test -run '^$$' -fuzz FuzzClusterURI -fuzztime $(FUZZ_TIME) ./pkg/dependencies
	go test -run '^$$' -fuzz FuzzEntries -fuzztime $(FUZZ_TIME) -fuzzminimizetime 10x ./pkg/oci/tektonbundle
	go test -run '^$$' -fuzz FuzzEntryResource -fuzztime $(FUZZ_TIME) -fuzzminimizetime 10x ./pkg/oci/tektonbundle
	go test -run '^$$' -fuzz FuzzSigstoreBundle -fuzztime $(FUZZ_TIME) -fuzzminimizetime 10x ./pkg/oci/imagesignature
	go test -run '^$$' -fuzz FuzzRetryAfter -fuzztime $(FUZZ_TIME) ./pkg/oci/registry
	go test -run '^$$' -fuzz FuzzLocation -fuzztime $(FUZZ_TIME) -fuzzminimizetime 10x ./pkg/store/oci
	go test -run '^$$' -fuzz FuzzStatement -fuzztime $(FUZZ_TIME) -fuzzminimizetime 10x ./pkg/attestation

.PHONY: bench
bench: ## Measure latency, throughput and memory on a real control plane, verification and storage
	go run ./test/bench

.PHONY: cluster-up
cluster-up: ## Start a cluster with the controller and leave it running
	go run ./test/devcluster up

.PHONY: cluster-down
cluster-down: ## Stop that cluster and remove its data
	go run ./test/devcluster down

.PHONY: run
run: ## Run the controller in the foreground against that cluster (in the place of its own)
	go run ./test/devcluster run
