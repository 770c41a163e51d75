.PHONY: train test test-fast test-slow lint format

train:  ## pre-train on the embedded digits
	python train.py

test:  ## every test
	python -m pytest

test-fast:  ## what takes seconds: under two minutes in all
	python -m pytest -m "not slow"

test-slow:  ## whole runs, real images, several processes
	python -m pytest -m slow

lint:
	ruff check .
	ruff format --check .

format:
	ruff check --fix .
	ruff format .
