"""The engine without a server: steps, threads, gaps, what reuse, speculation and healing bring."""
