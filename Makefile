.PHONY: train test test-fast test-slow lint format

train:  ## pre-train on the embedded digits
	python train.py

# Two processes: most of a test's time is TensorFlow tracing, on one core.
PYTEST = python -m pytest -n 2 --dist=worksteal

test:  ## every test
	$(PYTEST)

test-fast:  ## what takes seconds: under two minutes in all
	$(PYTEST) -m "not slow"

test-slow:  ## whole runs, real images, several processes
	$(PYTEST) -m slow

lint:
	ruff check .
	ruff format --check .

format:
	ruff check --fix .
	ruff format .
