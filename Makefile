# What people type. `make test` is what has to pass; everything it needs that Go
# does not bring is installed by e2e/needs.sh where that may be done.

GO ?= go
STATICCHECK = $(GO) tool staticcheck
EXAMPLES = $(dir $(wildcard examples/*/go.mod))
PLATFORMS = linux/amd64 linux/arm64 darwin/amd64 darwin/arm64

.PHONY: build test test-long lint platforms examples fuzz bench needs

build: ## the binary, ./holdfast
	CGO_ENABLED=0 $(GO) build -trimpath -o holdfast .

test: needs lint platforms examples ## everything that has to pass
	$(GO) test -race -shuffle=on -timeout 30m ./...

test-long: needs ## the same with long simulations, and a minute of each fuzzer
	HOLDFAST_LONG=1 $(GO) test -race -shuffle=on -timeout 60m ./...
	$(MAKE) fuzz FUZZTIME=60s

lint: ## formatting, vet, staticcheck
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "not gofmt'ed:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(STATICCHECK) ./...
	GOOS=darwin $(GO) vet ./...

platforms: ## the binary builds for every platform we name
	@set -e; for p in $(PLATFORMS); do echo "build $$p"; \
		CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/} $(GO) build -trimpath -o /dev/null .; done

examples: ## the Go examples are modules of their own
	@set -e; for d in $(EXAMPLES); do echo "test $$d"; (cd $$d && $(GO) vet ./... && $(GO) test -race ./...); done

FUZZTIME ?= 20s
fuzz: ## every fuzzer for FUZZTIME
	@set -e; for f in $$(grep -rlE '^func Fuzz' --include='*_test.go' internal); do \
		for name in $$(sed -nE 's/^func (Fuzz[A-Za-z0-9_]*)\(.*/\1/p' $$f); do \
			echo "fuzz $$(dirname $$f) $$name"; $(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) ./$$(dirname $$f); done; done

bench: ## side by side with other proxies: some 15 minutes, on a machine that does nothing else
	@bench/needs.sh
	CGO_ENABLED=0 $(GO) run ./bench $(BENCH)

needs: ## Debian's and npm's packages that the tests use
	@e2e/needs.sh
