"""Measurements against a running server: `python -m benchmarks NAME`."""
