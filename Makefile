# Two commands on a fresh machine: `make demo` and `make test`. Each builds .venv on first use.
PYTHON ?= python3.11
BIN := .venv/bin
export TOKENIZERS_PARALLELISM := false

.PHONY: demo report test fast lower check format clean

demo: .venv/ready
	$(BIN)/merger search --experts ded,ind,abd --trials 24 --items 50+150

# The report in docs/example: 3 tasks, 100 confirm items each; eight minutes on two cores.
report: .venv/ready
	rm -rf build/report
	$(BIN)/merger search --experts ded,ind,abd --trials 24 --items 50+100 --seed 0 --out build/report/demo
	$(BIN)/merger ablate build/report/demo
	rm -rf docs/example
	mkdir -p docs/example
	cp -r build/report/demo/report.md build/report/demo/figures docs/example
	rm -f docs/example/figures/*.png

# Two tests at a time, each on one core.
test fast: export OMP_NUM_THREADS = 1

test: .venv/ready
	$(BIN)/python -m pytest -m "not gpu" -n 2 --dist loadfile

fast: .venv/ready
	$(BIN)/python -m pytest -m "not gpu and not slow" -n 2 --dist loadfile

# The fast tests with every dependency at its lower bound, in an environment of their own.
lower: .venv/ready
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt uv
	$(BIN)/python -m tests.lower_bounds

check: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python benchmarks/count_lines.py

format: .venv/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The constraints pin every version; the extra `rl` is what Stage A and C of the recipes need.
.venv/ready: pyproject.toml constraints.txt merger/native.c
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[rl,math,gym,plots,cmaes,postgres,dev]"
	touch $@

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
