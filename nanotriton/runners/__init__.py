"""Runners: one call of the model over KV slots, behind the protocol in base.py."""
