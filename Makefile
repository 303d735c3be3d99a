# Patchbay. `make help` lists the targets; a fresh machine needs git, Go and make.
SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS   += --no-builtin-rules
.DEFAULT_GOAL := help

MODULE  := $(shell awk '$$1 == "module" {print $$2}' go.mod)
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
CONFIG  ?= configs/demo.yaml
FUZZTIME ?= 60s

# Tools that are not in go.mod, installed into bin/tools on first use. These are the only places that name their versions.
BUF_VERSION      := v1.75.0
GOFUMPT_VERSION  := v0.12.0
GOLANGCI_VERSION := v2.15.0

BIN      := $(CURDIR)/bin
TOOLS    := $(BIN)/tools
BUF      := $(TOOLS)/buf-$(BUF_VERSION)
GOFUMPT  := $(TOOLS)/gofumpt-$(GOFUMPT_VERSION)
GOLANGCI := $(TOOLS)/golangci-lint-$(GOLANGCI_VERSION)

PLUGINS := $(patsubst plugins/%/main.go,%,$(wildcard plugins/*/main.go))
LDFLAGS := -s -w -X $(MODULE)/core/version.stamped=$(VERSION)
GOBUILD := CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)'

# What `make interop` calls: a bot (baresip), a load generator (sipp), people speaking, recorded prompts.
INTEROP_PACKAGES := baresip sip-tester pocketsphinx-testdata asterisk-core-sounds-en-wav sox

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / {printf "%-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/patchbay and bin/plugins/<name> for each folder under plugins/
	@mkdir -p $(BIN)/plugins
	$(GOBUILD) -o $(BIN)/patchbay ./core/cmd/patchbay
	@for p in $(PLUGINS); do \
		echo "$(GOBUILD) -o $(BIN)/plugins/$$p ./plugins/$$p"; \
		$(GOBUILD) -o $(BIN)/plugins/$$p ./plugins/$$p; \
	done

.PHONY: demo
demo: build ## one real call with speech both ways, simulated on both ends; prints what happened
	@PATCHBAY_BIN=$(BIN) go run ./configs/demo

.PHONY: run
run: build ## the gateway until Ctrl-C, with CONFIG=file (default: the demo app with a simulated bot beside it)
	@PATCHBAY_BIN=$(BIN) CONFIG=$(CONFIG) configs/demo/run.sh

.PHONY: test
test: build ## the test suite, unit to end-to-end with the real binaries
	PATCHBAY_BIN=$(BIN) go test -timeout 10m ./...

.PHONY: check
check: gen-check fmt-check lint vet boundaries race ## everything a change has to pass before it is merged

.PHONY: race
race: build ## the test suite under the race detector (needs gcc)
	PATCHBAY_BIN=$(BIN) CGO_ENABLED=1 go test -race -timeout 15m ./...

.PHONY: vet
vet: ## go vet
	go vet ./...

.PHONY: lint
lint: $(GOLANGCI) ## golangci-lint with .golangci.yml
	$(GOLANGCI) run --allow-parallel-runners ./...

.PHONY: fmt
fmt: $(GOFUMPT) ## format the code
	$(GOFUMPT) -w $$(git ls-files -co --exclude-standard '*.go' ':!*.pb.go')

.PHONY: fmt-check
fmt-check: $(GOFUMPT)
	@unformatted=$$($(GOFUMPT) -l $$(git ls-files -co --exclude-standard '*.go' ':!*.pb.go')); \
	if [ -n "$$unformatted" ]; then echo "not formatted, run make fmt:"; echo "$$unformatted"; exit 1; fi

.PHONY: boundaries
boundaries: ## who may import and name whom
	go test -count=1 -run '^TestBoundaries' ./configs

.PHONY: gen
gen: $(BUF) ## generate the Go code of sdk/proto
	$(BUF) lint
	$(BUF) generate

.PHONY: gen-check
gen-check: $(BUF)
	@$(BUF) lint
	@tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; \
	$(BUF) generate -o "$$tmp"; \
	(cd "$$tmp/sdk/proto" && find . -name '*.pb.go' | sort) > "$$tmp/new"; \
	(cd sdk/proto && find . -name '*.pb.go' | sort) > "$$tmp/old"; \
	diff "$$tmp/old" "$$tmp/new" || { echo "generated files are missing or left over, run make gen"; exit 1; }; \
	while read -r f; do \
		diff -q "sdk/proto/$$f" "$$tmp/sdk/proto/$$f" >/dev/null || { echo "sdk/proto/$$f is not current, run make gen"; exit 1; }; \
	done < "$$tmp/new"

.PHONY: interop
interop: build interop-packages ## calls to real SIP peers (baresip, sipp) with recorded human speech; Debian
	PATCHBAY_BIN=$(BIN) go test -count=1 -timeout 10m -tags interop ./configs/interop/...

.PHONY: interop-packages
interop-packages:
	@missing=; for p in $(INTEROP_PACKAGES); do \
		dpkg-query -W -f '$${db:Status-Status}' $$p 2>/dev/null | grep -qx installed || missing="$$missing $$p"; \
	done; \
	if [ -n "$$missing" ]; then configs/install-debian.sh $$missing; fi

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (default 60s) each; outside CI
	@for dir in $$(git grep -l --untracked '^func Fuzz' -- '*_test.go' | xargs -r -n1 dirname | sort -u); do \
		for f in $$(go test -list '^Fuzz' ./$$dir | grep '^Fuzz'); do \
			echo "== $$dir $$f"; \
			go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) ./$$dir; \
		done; \
	done

.PHONY: speech
speech: ## make the demo's two recordings again (needs Debian's espeak-ng and sox)
	configs/demo/speech.sh

.PHONY: clean
clean: ## remove what was built
	rm -rf bin var

# install-tool installs $(1)@$(2) as $@.
define install-tool
	@mkdir -p $(TOOLS)
	GOBIN=$(TOOLS)/new GOFLAGS= CGO_ENABLED=0 go install $(1)@$(2)
	@mv $(TOOLS)/new/$(notdir $(1)) $@
endef

$(BUF):
	$(call install-tool,github.com/bufbuild/buf/cmd/buf,$(BUF_VERSION))

$(GOFUMPT):
	$(call install-tool,mvdan.cc/gofumpt,$(GOFUMPT_VERSION))

$(GOLANGCI):
	$(call install-tool,github.com/golangci/golangci-lint/v2/cmd/golangci-lint,$(GOLANGCI_VERSION))
