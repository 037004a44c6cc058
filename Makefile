# `make demo` and `make test` set themselves up; `make help` lists the targets.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt

.PHONY: help setup browser demo test soak check format pictures study findings gpu-check bench-surface bench-refinement bench-curvature bench-consistency bench-recording bench-directions clean bench-training

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

setup: .venv/.ready ## make .venv with everything the toolkit needs

.venv/.ready: pyproject.toml constraints.txt
	@bash scripts/setup.sh $(PYTHON)

demo: setup ## train, measure and draw three small nets, then serve the dashboard
	@bash scripts/apt.sh dataset-fashion-mnist /usr/share/datasets/fashion-mnist
	@$(BIN)/landscape demo $(DEMO)

browser: setup
	@bash scripts/apt.sh chromium /usr/bin/chromium

test: browser ## run all tests
	@bash scripts/apt.sh dataset-fashion-mnist /usr/share/datasets/fashion-mnist
	@$(BIN)/python -m pytest -q $(TESTS)

soak: setup ## kill surfaces, alone and under torchrun, and training 25 times each; writes benchmarks/soak.txt
	@PYTHONPATH=tests $(BIN)/python scripts/soak.py $(SOAK)

check: setup ## formatting, lint, types and import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: setup ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

pictures: setup browser ## draw the README's pictures from the demo's runs
	@$(BIN)/landscape demo --no-serve
	@$(BIN)/python scripts/pictures.py

study: setup ## train and compare five methods with three seeds; writes benchmarks/study/
	@bash scripts/apt.sh dataset-fashion-mnist /usr/share/datasets/fashion-mnist
	@$(BIN)/python scripts/study.py $(STUDY)

findings: setup ## hold the paper's claim against the study's runs; writes benchmarks/study/claim/
	@$(BIN)/python scripts/findings.py

gpu-check: setup ## compare GPU and CPU; writes benchmarks/gpu/
	@$(BIN)/python benchmarks/gpu_check.py

bench-surface: setup ## surfaces against other tools; writes benchmarks/surface/
	@bash scripts/apt.sh dataset-fashion-mnist /usr/share/datasets/fashion-mnist
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	@$(BIN)/python benchmarks/bench_surface.py $(BENCH)

bench-refinement: setup ## points saved by tolerance, and whether its error holds; writes benchmarks/refinement/
	@$(BIN)/python benchmarks/bench_refinement.py

bench-curvature: setup ## Hessian products, eigenpairs and density against other tools; writes benchmarks/curvature/
	@bash scripts/apt.sh dataset-fashion-mnist /usr/share/datasets/fashion-mnist
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	@$(BIN)/python benchmarks/bench_curvature.py $(BENCH)

bench-consistency: setup ## the frozen protocol on ResNet-20; writes benchmarks/consistency/
	@$(BIN)/python benchmarks/bench_consistency.py $(BENCH)

bench-recording: setup ## what recording adds to a SAM step; writes benchmarks/recording/
	@$(BIN)/python benchmarks/bench_recording.py $(BENCH)

bench-directions: setup ## time and memory of the directions of 78,200 steps; writes benchmarks/directions/
	@$(BIN)/python benchmarks/bench_directions.py $(BENCH)

bench-training: setup ## steps of the SAM family in steps of SGD, images a second; writes benchmarks/training/
	@$(BIN)/python benchmarks/bench_training.py $(BENCH)

clean: ## remove .venv and caches; data and runs stay
	rm -rf .venv .pytest_cache .ruff_cache .import_linter_cache build dist *.egg-info
