.PHONY: train tables docs constraints test test-fast test-slow test-endurance lint types format

train:  ## pre-train on the embedded digits
	python train.py

tables:  ## the tables and charts of README and docs, from results
	python -m docs.tables

docs:  ## the documentation site, in site/
	python -m docs.site

constraints:  ## constraints.txt, from the versions that are installed here
	python -m docs.pins

# Two processes: most of a test's time is TensorFlow tracing, on one core. A test that hangs fails
# after TEST_TIMEOUT seconds; where that does not reach it, its process ends GRACE seconds later.
TEST_TIMEOUT = 600
GRACE = 60
PYTEST = python -m pytest -n 2 --dist=worksteal --timeout=$(TEST_TIMEOUT) --timeout-method=signal \
	-o faulthandler_timeout=$$(($(TEST_TIMEOUT) + $(GRACE))) -o faulthandler_exit_on_timeout=true
# With TIME_BUDGET=SECONDS no further test is started once that time is spent.
BUDGET = $(if $(TIME_BUDGET),--time_budget=$(TIME_BUDGET))

test:  ## every test
	$(PYTEST)

# These tests are small: nearly all of their time is compilation, which is cheaper without the
# optimisations of XLA and of TensorFlow's graphs. The slow tests compile as a user does.
test-fast: TEST_TIMEOUT = 300
test-fast: export XLA_FLAGS = --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes
test-fast: export PLAIN_GRAPHS = 1
test-fast:  ## what a change can break, in minutes
	$(PYTEST) -m "not slow and not endurance" $(BUDGET)

test-slow:  ## whole runs, several processes
	$(PYTEST) -m "slow and not endurance" $(BUDGET)

test-endurance: TEST_TIMEOUT = 1800
test-endurance:  ## repeated kills, long runs, thousands of requests, real images, whole tables
	$(PYTEST) -m endurance $(BUDGET)

lint:
	ruff check .
	ruff format --check .

types:  ## the type hints, by mypy
	mypy

format:
	ruff check --fix .
	ruff format .
