PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-triton check bench docs clean

demo: .venv/.installed
	$(BIN)/python -m examples.digits

test: .venv/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --cov
	$(BIN)/coverage report --include='ebgan_detect/losses/*,ebgan_detect/thresholds.py' --fail-under=100

test-triton: .venv/.installed
	EBGAN_REQUIRE_TRITON=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m triton

check: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	find ebgan_detect -name '*.py' -exec $(BIN)/numpydoc lint {} +

bench: .venv/.installed
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.images heldout-digit --cases 4 7 --seeds 0 --methods EBGAN control untrained
	$(BIN)/python -m benchmarks.tabular
	$(BIN)/python -m benchmarks.serving

docs: .venv/.installed
	$(BIN)/pdoc --docformat numpy --output-directory build/docs ebgan_detect

clean:
	rm -rf build dist .coverage .coverage.* htmlcov
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find ebgan_detect tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev,plot,cli,bench,onnx,triton,scale]'
	# For its data sets only: its wheel asks for CUDA libraries that no test needs.
	$(BIN)/python -m pip install --no-deps -c constraints.txt torchvision lmdb
	touch $@
