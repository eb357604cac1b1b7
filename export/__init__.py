"""A GPT checkpoint in, a version of the model repository out.

Run as ``python -m export <checkpoint|graph|quantized|parity|repository|all>``; the stages talk
through files in a working folder, so that each can be run again alone. Imports of nanotriton only
the contract, the errors, the tokenizer and the runners; never training.
"""
