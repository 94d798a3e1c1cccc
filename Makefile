# Everything a fresh machine needs: Python 3.11 or newer and make.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
DEMO := outputs/demo

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-summaries check format test test-all test-gpu test-faults test-trackers lock test-cluster submit-demo bench bench-peers bench-check docs test-docs clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: $(STAMP)  ## Make .venv and install the project with every version pinned

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: setup  ## The main job on real text: tokenizer, tokens, model, scores, samples, report
	$(RUN) -m jobs.train_tokenizer experiment=demo/train_tokenizer output=$(DEMO)/tokenizer
	$(RUN) -m jobs.tokenize_corpus experiment=demo/tokenize_corpus corpus.split=train output=$(DEMO)/tokens/train
	$(RUN) -m jobs.tokenize_corpus experiment=demo/tokenize_corpus corpus.split=valid output=$(DEMO)/tokens/valid
	$(RUN) -m jobs.train experiment=demo/train output=$(DEMO)/model
	$(RUN) -m jobs.score experiment=demo/score output=$(DEMO)/scored
	$(RUN) -m jobs.generate experiment=demo/generate output=$(DEMO)/samples
	$(RUN) -m jobs.evaluate experiment=demo/evaluate output=$(DEMO)/report
	@echo "open $(DEMO)/report/report.html"

SUMMARIES := outputs/summaries

demo-summaries: setup  ## Sequence to sequence on real code: what a function does, from its source (quarter of an hour)
	$(RUN) -m jobs.train_tokenizer experiment=summaries/train_tokenizer output=$(SUMMARIES)/tokenizer
	for split in train valid; do $(RUN) -m jobs.tokenize_corpus experiment=summaries/tokenize_corpus \
	    corpus.split=$$split tokenizer_path=$(SUMMARIES)/tokenizer output=$(SUMMARIES)/tokens/$$split || exit 1; done
	$(RUN) -m jobs.train experiment=summaries/train tokenizer_path=$(SUMMARIES)/tokenizer \
	    train_tokens=$(SUMMARIES)/tokens/train valid_tokens=$(SUMMARIES)/tokens/valid output=$(SUMMARIES)/model
	$(RUN) -m jobs.generate experiment=summaries/generate checkpoint=$(SUMMARIES)/model output=$(SUMMARIES)/generated
	$(RUN) -m jobs.evaluate experiment=summaries/evaluate hypotheses=$(SUMMARIES)/generated run=$(SUMMARIES)/model \
	    output=$(SUMMARIES)/report
	@echo "open $(SUMMARIES)/report/report.html"

submit-demo: setup  ## `ray job submit` to a cluster of its own with a token: a score run, its log and its first rows
	$(RUN) -m benchmarks.submit_demo

check: setup  ## Style, types, layers (under a minute)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check --quiet .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

format: setup  ## Put the code into the house style
	$(VENV)/bin/ruff check --fix --quiet .
	$(VENV)/bin/ruff format --quiet .

test: setup  ## The tests that gate every change (twenty minutes)
	$(RUN) -m pytest -m "not slow and not gpu and not faults and not cluster and not docs"

test-all: setup  ## Every test, the slow ones too
	$(RUN) -m pytest -m "not faults and not cluster and not docs"

test-gpu: setup  ## The tests that need a GPU or triton; what can be checked without a GPU is
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,gpu]'
	$(RUN) -m pytest tests/gpu

test-faults: setup  ## 200 random kills of workers, drivers and nodes under a score run (half an hour)
	$(RUN) -m pytest -m faults -s tests/faults

TRACKERS := outputs/trackers

test-trackers: setup  ## Training against a real MLflow server and Weights & Biases offline, in a .venv of their own
	test -x $(TRACKERS)/bin/python || $(RUN) -m venv $(TRACKERS)
	$(RUN) -c 'import site; print(site.getsitepackages()[0])' > \
	    $$($(TRACKERS)/bin/python -c 'import site; print(site.getsitepackages()[0])')/project.pth
	$(TRACKERS)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/trackers/requirements.txt
	$(TRACKERS)/bin/python -m pytest tests/trackers

test-cluster: setup  ## Nodes that go while rows are scored and models trained, and a network that is cut (five minutes)
	$(RUN) -m pytest -m cluster tests/cluster

bench: setup  ## Measure every kind of work against plain scripts and peers (an hour and a half; benchmarks/README.md)
	$(RUN) -m benchmarks.bench_score --size small
	$(RUN) -m benchmarks.bench_score --size big
	$(RUN) -m benchmarks.bench_ray
	$(RUN) -m benchmarks.bench_generate
	$(RUN) -m benchmarks.bench_generate --precision int8
	$(RUN) -m benchmarks.bench_start
	$(RUN) -m benchmarks.bench_memory
	$(RUN) -m benchmarks.bench_train rate
	$(RUN) -m benchmarks.bench_train rate --vocab 33278 --hidden 256 --lanes 32 --window 35
	$(RUN) -m benchmarks.bench_train rate --vocab 33278 --hidden 256 --lanes 32 --window 35 --softmax sampled
	$(RUN) -m benchmarks.bench_train memory --vocab 33278
	$(RUN) -m benchmarks.bench_cells
	$(RUN) -m benchmarks.bench_attention
	$(RUN) -m benchmarks.bench_labels
	$(MAKE) bench-peers

bench-peers: setup  ## The part of bench that needs corpora and installs packages under outputs/peers
	$(RUN) -m benchmarks.bench_flair
	$(RUN) -m benchmarks.bench_flair_tagger
	$(RUN) -m benchmarks.bench_gpt2
	$(RUN) -m benchmarks.bench_tokenize
	$(RUN) -m benchmarks.race_to_loss

bench-check: setup  ## Short measurements; fails if a ratio is worse than in benchmarks/expected.json (ten minutes)
	$(RUN) -m benchmarks.check

docs: setup  ## The documentation as a site, outputs/docs; a warning or a broken link fails (half a minute)
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --quiet --strict   # what follows MkDocs is no matter of a build
	@echo "open outputs/docs/index.html"

test-docs: docs  ## The tutorials, each command as a reader would, held to what they say comes out (ten minutes)
	$(RUN) -m pytest -m docs tests/docs

LOCK := outputs/lock

lock: setup  ## Write requirements.lock: every package of constraints.txt that is used, with the hashes of its files
	test -x $(LOCK)/bin/python || $(RUN) -m venv $(LOCK)
	$(LOCK)/bin/python -m pip install --quiet --disable-pip-version-check 'pip-tools>=7.5'
	$(LOCK)/bin/pip-compile --quiet --rebuild --generate-hashes --strip-extras --allow-unsafe -c constraints.txt \
	    --no-header --no-annotate --no-emit-options --extra report --extra delta --extra iceberg --extra baselines \
	    --extra tune -o requirements.lock pyproject.toml

clean:  ## Remove what demo and tests made; .venv stays
	rm -rf outputs .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
