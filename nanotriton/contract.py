"""What the stages agree on: file names, tensor names, the graph's axes.

Comes in: nothing. Goes out: constants. Knows nothing of how any of it is computed, nor of what a
version says of itself (`nanotriton.manifest`).

Axis letters, fixed for the whole project: B batch, T tokens, V vocabulary, K candidates,
L layers, H heads, D head dimension, S slots, M maximum sequence length, R rows.
"""

# Files of one exported version, <repository>/gpt/<version>/.
ENGINE_MODEL = "gpt"
MANIFEST_FILE = "manifest.json"
PROCESSOR = "processor"  # the key of `versions` for the processor that export proved it on
GRAPH_FILE = "model.onnx"
WEIGHTS_FILE = "model.onnx.data"
DECODE_GRAPH_FILE = "model.int4.onnx"
DECODE_WEIGHTS_FILE = "model.int4.onnx.data"
PLAN_FILE = "model.plan"
KV_LAYOUT = "L,2,S,H,M,D"  # axes of the engine's cache
TOKENIZER_FILE = "tokenizer.json"
RANKS_FILE = "tokenizer.tiktoken"

# What an exported version may keep keys and values in, and the bytes that a number takes.
KV_DTYPES = {"float32": 4, "float16": 2, "int8": 1}
ORT_KV_DTYPES = ("float32", "int8")  # what ONNX Runtime's attention takes; plans have the others

# Tensors of the doors (completion, completion_stream) that people use.
TEXT_INPUT = "text_input"
SUFFIX = "suffix"  # optional: the text after the cursor
TEXT_OUTPUT = "text_output"
FINISH_REASON = "finish_reason"
PROMPT_TOKENS = "prompt_tokens"
COMPLETION_TOKENS = "completion_tokens"  # of all texts of a request, also those not returned
LOGPROBS = "output_logprobs"  # a JSON text, empty when nobody asked
INDEX = "index"  # in a stream: the number of the text that a piece belongs to
STREAM = "stream"
CANCEL = "cancel"  # ends the stream that has this request's id, and is answered with nothing

# The ensemble `score`: its models, and its tensors besides those of its graph.
SCORE_MODEL = "score"
SCORE_TOKENS_MODEL = "score_tokens"
PLAN_MODEL = "gpt_plan"  # the graph's plan, served by Triton's own TensorRT backend
SCORE_GRAPH_MODEL = "gpt_graph"  # the same graph on the CPU
CONTINUATION = "continuation"
NUM_TOKENS = "num_tokens"  # (B, 1) INT32, tokens of the continuation

# Tensors between the ensemble's steps: B rows padded on the right, each with its length.
INPUT_IDS = "input_ids"
INPUT_LENGTHS = "input_lengths"
OUTPUT_IDS = "output_ids"
# Of each of a request's n texts, whose ids lie one after another in a row of output_ids.
TEXT_TOKENS = "text_tokens"
TEXT_BYTES = "text_bytes"
HEALED_BYTES = "healed_bytes"  # of its first token, which end the prompt and are no text

# The sampling settings: optional inputs of both doors and of `gpt`, name to Triton data type.
# Their ranges and defaults stand in nanotriton.engine.request.Settings.
SETTINGS = {
    "max_tokens": "INT32",
    "temperature": "FP32",
    "top_k": "INT32",
    "top_p": "FP32",
    "min_p": "FP32",
    "repetition_penalty": "FP32",
    "frequency_penalty": "FP32",
    "presence_penalty": "FP32",
    "logit_bias": "BYTES",
    "seed": "INT64",
    "n": "INT32",
    "best_of": "INT32",
    "stop": "BYTES",
    "stop_at": "BYTES",
    "truncate": "BYTES",
    "token_healing": "BOOL",
    "ignore_eos": "BOOL",
    "logprobs": "INT32",
    "priority": "INT32",
    "timeout_ms": "INT32",
    "user": "BYTES",
}

# Inputs and outputs of model.onnx in the ONNX Runtime dialect; export.graph holds the recipe.
# A call takes N tokens: a chunk of T tokens of one sequence, then one token of each of B others.
GRAPH_INPUT_IDS = "input_ids"  # (N,) int64
GRAPH_POSITION_IDS = "position_ids"  # (N,) int64
GRAPH_ROWS = "rows"  # (R,) int64, which of the N tokens reach the head
GRAPH_ATTENTION_ROWS = "attention_rows"  # (N,) int64, each token's row in attended chunk ++ decode
# Of the decode part; the chunk's own have the names that `chunk_name` gives, and B = 1. A part that
# a call has not attends one token over a cache of one position, and nobody reads the result.
GRAPH_ATTENDED = "attended"  # (B, 1) int64, which of the N tokens it attends; the chunk's (1, T)
GRAPH_SEQLENS_K = "seqlens_k"  # (B,) int32, tokens of each row after this call, less one
GRAPH_TOTAL_LEN = "total_len"  # (1,) int32, the largest of those totals
GRAPH_TOP_LOGITS = "top_v"  # (R, K) float32, sorted, largest first
GRAPH_TOP_TOKENS = "top_i"  # (R, K) int64
GRAPH_LSE = "lse"  # (R,) float32, log-sum-exp over all V logits
GRAPH_LOGITS = "logits"  # (R, V) float32, only computed into memory when it is bound

# In the metadata of a graph whose attention the native library can take (export.slot_attention).
SLOT_ATTENTION = "slot_attention"

# Further inputs and outputs of the TensorRT dialect, where a row may be any of a batch's; the rest
# are those above (export.dialect).
GRAPH_WRITE_INDICES = "write_indices"  # (B,) int64, tokens the slot holds: new ones come behind
GRAPH_PLACES = "places"  # (B, C) int64, which tokens of each row reach the head
GRAPH_TARGETS = "targets"  # (B, C) int64, the token to score behind each of them; -1 is none
GRAPH_LOGPROBS = "token_logprobs"  # (B, C) float32, log of its probability; 0 for none
GRAPH_RANKS = "token_ranks"  # (B, C) int64, how many tokens are likelier; 0 for none
GRAPH_LOGPROB = "logprob"  # (B, 1) float32, the sum of a row's


def chunk_name(name: str) -> str:
    """What an input or output of the decode part is called for the chunk."""
    return f"chunk_{name}"


def past_name(layer: int, kind: str) -> str:
    """Name of the KV cache that enters layer `layer`; `kind` is "k" or "v"; (B, H, M, D)."""
    return f"past_{kind}_{layer}"


def present_name(layer: int, kind: str) -> str:
    """Name of the KV cache that leaves layer `layer`, bound to the memory of `past_name`."""
    return f"present_{kind}_{layer}"
