# Every target that is meant to be called has a line after `##`; `make` alone lists them.

PYTHON ?= python3
VENV   := .venv
BIN    := $(CURDIR)/$(VENV)/bin
WHEELS := target/wheels
# Built sooner than what is published.
DEMO   := target/demo
# What is compiled for besides this machine: all that is published for a mac, the sandbox for others.
TARGETS := aarch64-apple-darwin aarch64-unknown-linux-gnu x86_64-pc-windows-gnu
NO_COMPILER := $(CURDIR)/.ci/no-compiler
PUBLISHED := $(foreach crate,audit credentials sandbox proxy py,-p nono-$(crate))
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo wheel test setup check-format check-lint check-targets check-kernels test-rust test-doc check-doc \
	test-python docs check-instructions renew-instructions develop fuzz bench bench-quick bench-parts bench-readme \
	bench-instructions bench-setup bench-programs fmt clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.maturin ## build the package, and let an agent use an API whose key it cannot find
	@rm -rf $(DEMO)
	@$(BIN)/maturin build --quiet --release --manifest-path py/Cargo.toml --out $(DEMO)
	@$(BIN)/pip install --quiet --force-reinstall --no-deps $(DEMO)/nono_py-*.whl
	@wheel=$$(echo $(DEMO)/nono_py-*.whl) && $(BIN)/pip install --quiet "$$wheel[demo]"
	@cd / && $(BIN)/nono-py demo

wheel: $(VENV)/.maturin ## build the package as it is published into target/wheels; trained, after `make bench-programs`
	@BIN=$(BIN) benches/wheel $(WHEELS)

test: setup check-format check-lint check-targets test-rust test-doc check-doc test-python check-instructions ## run all that has to hold for a change
	@echo "all tests passed"

setup: ## install the programs that the tests use, or say which are missing
	@.ci/setup $(TARGETS)

check-format: ## Rust: formatting
	cargo fmt --all --check

check-lint: ## Rust: lints
	cargo clippy --workspace --all-targets -- -D warnings

# A mac's Python and its C compiler are not here. Neither is needed to be told of mistakes: pyo3 looks
# for no Python when it is told so, and no object of C is looked into when nothing is linked.
check-targets: ## Rust: lints for other platforms, as far as they are installed
	@for target in $(TARGETS); do \
		case $$target in *-apple-*) packages="$(PUBLISHED)";; *) packages="-p nono-sandbox";; esac; \
		if [ -d "$$(rustc --print target-libdir --target $$target)" ]; then \
			PYO3_NO_PYTHON=1 TARGET_CC=$(NO_COMPILER) TARGET_CXX=$(NO_COMPILER) TARGET_AR=$(NO_COMPILER) \
			cargo clippy --quiet $$packages --all-features --target $$target -- -D warnings || exit 1; \
		else \
			echo "left out, for want of 'rustup target add $$target'"; \
		fi; \
	done

test-rust: ## Rust: unit and integration tests
	cargo nextest run --workspace
	cargo test --quiet --profile counted -p nono-audit --test volume

check-kernels: ## Rust: control groups, Landlock and Yama on other kernels, in virtual machines
	@$(PYTHON) tests/kernels/run.py

test-doc: ## Rust: examples in the documentation
	cargo test --quiet --doc --workspace

check-doc: ## Rust: the documentation itself
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --workspace --document-private-items

test-python: develop ## Python: lints, types, stub and tests
	cd py && $(BIN)/ruff check . ../benches ../tests && $(BIN)/ruff format --check . ../benches ../tests
	cd py && $(BIN)/python -m mypy
	cd py && $(BIN)/python -m mypy --platform darwin python/nono_py
	cd py && $(BIN)/python -m mypy.stubtest nono_py
	cd py && $(BIN)/python -m pytest

docs: develop ## Python: the documentation site, into target/docs
	cd py && $(BIN)/python docs/refusals.py
	cd py && NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

check-instructions: ## instructions per request: not more than benches/instructions.json, give or take
	cargo build --quiet --profile counted -p nono-benches --bins
	@BENCH_PROFILE=counted $(PYTHON) benches/instructions.py --check

renew-instructions: ## write benches/instructions.json, for a change that is worth its instructions
	cargo build --quiet --profile counted -p nono-benches --bins
	@BENCH_PROFILE=counted $(PYTHON) benches/instructions.py --renew

develop: $(VENV)/.maturin ## build the package with the tests' profile and install it into .venv
	@cd py && VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --quiet --extras test,docs >/dev/null

fuzz: ## feed the parsers random input, 10 seconds each (with cargo-fuzz: see tests/fuzz)
	@for target in target host_rule path head response policy; do \
		cargo run --quiet --target-dir target --manifest-path tests/fuzz/Cargo.toml --bin $$target 10 || exit 1; \
	done

bench: bench-setup ## measure the proxy beside nginx, HAProxy and others, into benches/report (half an hour, after the setup)
	@$(PYTHON) benches/run.py

bench-quick: bench-setup ## the same in three minutes after the setup, into benches/out
	@$(PYTHON) benches/run.py --quick

bench-readme: ## show benches/report in README.md
	@$(PYTHON) benches/run.py --readme

bench-parts: ## measure the parts: rules, paths, tokens, redaction, layers
	cargo bench -p nono-benches

bench-instructions: bench-programs ## count the instructions of a request, built as what is published but not trained
	@$(PYTHON) benches/instructions.py

bench-setup: bench-programs $(VENV)/.maturin ## build and install what the benchmarks need, or say what is missing
	@BIN=$(BIN) benches/wheel $(WHEELS)
	@benches/setup-packages $(WHEELS)

bench-programs: ## build and install the programs that the benchmarks and the training of the package need
	@benches/setup-programs

fmt: develop ## format all code
	cargo fmt --all
	cd py && $(BIN)/ruff check --fix --quiet . ../benches ../tests && $(BIN)/ruff format . ../benches ../tests

clean: ## remove what was built and installed here
	rm -rf $(VENV) target
	find py -depth \( -name __pycache__ -o -name '.*_cache' \) -exec rm -rf {} \;
	find py -name '*.so' -delete

$(VENV)/.maturin:
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet 'maturin>=1.13,<2'
	@touch $@
