"""The figures that `python -m benchmarks` measures, one module each."""
