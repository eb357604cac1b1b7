"""Source code in, a small GPT checkpoint with its tokenizer out.

Run as ``python -m training <corpus|tokenizer|train|release>``; every stage reads and writes files,
so that each can be run again alone. Knows nothing of ONNX, of TensorRT or of Triton, and imports
nothing of the other rooms.
"""
