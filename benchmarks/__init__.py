"""Measures this project side by side with others: `python -m benchmarks`."""
