.PHONY: train test test-fast test-slow lint format

train:  ## pre-train on the embedded digits
	python train.py

# Two processes: most of a test's time is TensorFlow tracing, on one core. A test that hangs fails
# after TEST_TIMEOUT seconds; where even that does not reach it, its process ends a minute later.
TEST_TIMEOUT = 600
PYTEST = python -m pytest -n 2 --dist=worksteal --timeout=$(TEST_TIMEOUT) --timeout-method=signal \
	-o faulthandler_timeout=$$(($(TEST_TIMEOUT) + 60)) -o faulthandler_exit_on_timeout=true

test:  ## every test
	$(PYTEST)

test-fast: TEST_TIMEOUT = 300
test-fast:  ## what takes seconds: seven to eight minutes in all, on two cores
	$(PYTEST) -m "not slow"

# With TIME_BUDGET=SECONDS no further test is started once that time is spent.
test-slow:  ## whole runs, real images, several processes
	$(PYTEST) -m slow $(if $(TIME_BUDGET),--time_budget=$(TIME_BUDGET))

lint:
	ruff check .
	ruff format --check .

format:
	ruff check --fix .
	ruff format .
