# Ingot's two commands are `make demo` and `make test`; the rest are their parts.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
export GOFLAGS := -buildvcs=false

GO       := go
VERSION  := $(shell git describe --always --dirty 2>/dev/null || echo unknown)
STATIC   := CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-s -w -X main.version=$(VERSION)'

.PHONY: help deps build boot images demo test check lint vmtest bench bench-imaging bench-mass generate verify clean

help: ## list these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

deps: ## install the Debian packages that are missing
	@tools/deps.sh

build: ## compile ingotd, ingot, ingot-agent, the first process and bmcsim into bin/
	@mkdir -p bin
	$(GO) build -trimpath -o bin/ingotd ./controller
	$(GO) build -trimpath -o bin/ingot ./tools/ingot
	$(GO) build -trimpath -o bin/bmcsim ./tools/bmcsim/cmd/bmcsim
	$(STATIC) -o bin/ingot-agent ./agent
	$(STATIC) -o bin/init ./initramfs/init

boot: build ## make kernel, initramfs and loaders in build/boot
	$(GO) run ./initramfs/mk -agent bin/ingot-agent -init bin/init -o build/boot

images: ## make the operating system images of the lab in build/images
	$(GO) run ./vmtest/image/mkimage -kind tiny -o build/images/tiny.raw
	$(GO) run ./vmtest/image/mkimage -kind debian -o build/images/debian.raw

demo: deps boot images ## three virtual machines from power-on to proof of life; ONCE=1 ends by itself
	bin/ingot lab demo $(if $(ONCE),--once)

check: ## vet, unit, store and protocol tests; no QEMU
	@mkdir -p build
	$(GO) vet -tags vm ./...
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "gofmt would change:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) test ./...

vmtest: boot ## the whole path in QEMU
	$(GO) run ./vmtest/image/mkimage -kind tiny -o build/images/tiny.raw
	$(GO) test -tags vm -count=1 -timeout 10m ./vmtest/qemu ./tools/bmcsim/vm
	$(GO) test -tags vm -count=1 -timeout 40m -v ./vmtest/scenario

test: deps check vmtest ## everything

lint: ## vet and gofmt only
	$(GO) vet -tags vm ./...

bench: ## benchmarks, as ratios to what a user would pick instead
	$(GO) test -run '^$$' -bench . -benchmem ./...
	$(GO) run ./tools/imagebench -short -dir build/bench/short

bench-imaging: ## writing images: ours, what others use, and the limit; most of an hour on 2 cores, best as root
	@tools/deps.sh bench
	$(GO) build -trimpath -o bin/imagebench ./tools/imagebench
	bin/imagebench $(if $(ROUNDS),-rounds $(ROUNDS))

bench-mass: ## many machines at once: 64 processes on shaped links; some 12 minutes, best as root
	@tools/deps.sh
	$(GO) build -trimpath -o bin/massbench ./tools/massbench
	bin/massbench

generate: ## remake the code that comes from the proto files, and docs/LIFECYCLE.md
	$(GO) run ./tools/generate/cmd
	$(GO) run ./tools/statedoc

verify: generate ## generated code is what is committed
	git diff --exit-code proto docs/LIFECYCLE.md

clean: ## remove what was built, but not the cache of downloads
	rm -rf bin build/boot build/images build/lab
