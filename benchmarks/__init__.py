"""Measurements of the engine, of servers and of others beside them: `python -m benchmarks NAME`."""
