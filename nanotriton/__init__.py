"""nanotriton: serve your own GPT checkpoint on NVIDIA Triton."""

__version__ = "0.1.0"
