"""A call of our own attention operator in tests: its inputs, its session, and NumPy's way."""

from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

from export import slot_attention
from nanotriton import contract

SCALE = 0.3
OPSETS = [
    helper.make_opsetid("", 20),
    helper.make_opsetid("com.microsoft", 1),
    helper.make_opsetid(slot_attention.DOMAIN, slot_attention.VERSION),
]
ELEMENTS = {np.float32: TensorProto.FLOAT, np.int32: TensorProto.INT32, np.int64: TensorProto.INT64}
ELEMENTS |= {np.int8: TensorProto.INT8}


@dataclass(frozen=True)
class Sizes:
    """A call: `past` tokens before a chunk of T, and what B decode rows hold with the new one."""

    num_heads: int = 2
    head_dim: int = 16
    positions: int = 40
    past: int = 0
    tokens: int = 0
    lengths: tuple[int, ...] = ()
    is_int8: bool = False
    seed: int = 0


def feeds_of(sizes):
    """Inputs of the call, its caches full of what other sequences left."""
    rng = np.random.default_rng(sizes.seed)
    num_tokens, width = sizes.tokens + len(sizes.lengths), sizes.num_heads * sizes.head_dim
    feeds = {slot_attention.PACKED: rng.normal(size=(num_tokens, 3 * width)).astype(np.float32)}
    rows, chunk = max(1, len(sizes.lengths)), max(1, sizes.tokens)
    first = sizes.tokens if sizes.lengths else 0
    parts = [
        (np.arange(first, first + rows)[:, None], sizes.lengths or (1,), bool(sizes.lengths)),
        (np.arange(chunk)[None], (sizes.past + chunk,), bool(sizes.tokens)),
    ]
    for rename, (attended, lengths, is_there) in zip(slot_attention.PARTS, parts, strict=True):
        positions = sizes.positions if is_there else 1
        shape = (len(lengths), sizes.num_heads, positions, sizes.head_dim)
        feeds[rename(contract.GRAPH_ATTENDED)] = attended
        feeds[rename(contract.GRAPH_SEQLENS_K)] = np.array(lengths, np.int32) - 1
        feeds[rename(contract.GRAPH_TOTAL_LEN)] = np.array([max(lengths)], np.int32)
        for name in slot_attention.PAST:
            cells = rng.normal(size=shape).astype(np.float32)
            if sizes.is_int8:
                cells = rng.integers(-127, 128, shape).astype(np.int8)
            feeds[rename(name)] = cells
    feeds[contract.GRAPH_ATTENTION_ROWS] = np.arange(num_tokens) + (sizes.tokens == 0)
    if sizes.is_int8:
        for name in slot_attention.SCALES:
            feeds[name] = rng.uniform(0.01, 0.03, width).astype(np.float32)
    return feeds


def open_session(sizes, library, num_threads=1, op=None):
    """A session of the operator alone, by the library or by the function."""
    names = [*slot_attention.INPUTS, *(slot_attention.SCALES if sizes.is_int8 else ())]
    op = op or (slot_attention.INT8 if sizes.is_int8 else slot_attention.FLOAT)
    node = helper.make_node(
        op,
        names,
        slot_attention.OUTPUTS,
        domain=slot_attention.DOMAIN,
        num_heads=sizes.num_heads,
        scale=SCALE,
    )
    feeds = feeds_of(sizes)
    inputs = [
        helper.make_tensor_value_info(name, ELEMENTS[feeds[name].dtype.type], None)
        for name in names
    ]
    cell = TensorProto.INT8 if sizes.is_int8 else TensorProto.FLOAT
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT if at == 0 else cell, None)
        for at, name in enumerate(slot_attention.OUTPUTS)
    ]
    graph = helper.make_graph([node], "attention", inputs, outputs)
    functions = slot_attention.functions_of([node], OPSETS[:2])
    model = helper.make_model(graph, functions=functions, opset_imports=OPSETS, ir_version=9)
    options = ort.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.log_severity_level = 4
    if library is not None:
        options.register_custom_ops_library(str(library))
    return ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


def run(session, feeds):
    """What is attended (N, H * D), and the feeds, their caches written in place."""
    feeds = {name: value.copy() for name, value in feeds.items()}
    io = session.io_binding()
    width = feeds[slot_attention.PACKED].shape[1] // 3
    out = np.full((len(feeds[slot_attention.PACKED]), width), np.nan, np.float32)
    for name, value in feeds.items():
        io.bind_input(name, "cpu", 0, value.dtype, value.shape, value.ctypes.data)
        if "past" in name:
            target = name.replace("past", "present")
            io.bind_output(target, "cpu", 0, value.dtype, value.shape, value.ctypes.data)
    io.bind_output(slot_attention.OUTPUTS[0], "cpu", 0, out.dtype, out.shape, out.ctypes.data)
    session.run_with_iobinding(io)
    return out, feeds


def reference(sizes, feeds):
    """The same in float64, token by token."""
    feeds = {name: value.copy() for name, value in feeds.items()}
    heads, dim = sizes.num_heads, sizes.head_dim
    packed = feeds[slot_attention.PACKED].reshape(-1, 3, heads, dim)
    scales = [
        feeds[name].reshape(heads, dim) if sizes.is_int8 else None for name in slot_attention.SCALES
    ]
    out = np.empty((len(packed), heads, dim))
    for rename, is_there in zip(slot_attention.PARTS, (sizes.lengths, sizes.tokens), strict=True):
        if not is_there:
            continue
        attended = feeds[rename(contract.GRAPH_ATTENDED)]
        for row, tokens in enumerate(attended):
            length = int(feeds[rename(contract.GRAPH_SEQLENS_K)][row]) + 1
            seen = []
            for kind, (name, scale) in enumerate(zip(slot_attention.PAST, scales, strict=True)):
                cache = feeds[rename(name)][row]  # (H, M, D)
                new = packed[tokens, kind + 1].transpose(1, 0, 2)
                if scale is not None:
                    new = np.clip(np.rint(new / scale[:, None]), -128, 127)
                cache[:, length - len(tokens) : length] = new
                cells = cache[:, :length].astype(np.float64)
                seen.append(cells if scale is None else cells * scale[:, None])
            for at, token in enumerate(tokens):
                end = length - len(tokens) + at + 1
                scores = np.einsum("hd,hmd->hm", packed[token, 0], seen[0][:, :end]) * SCALE
                weights = np.exp(scores - scores.max(axis=1, keepdims=True))
                weights /= weights.sum(axis=1, keepdims=True)
                out[token] = np.einsum("hm,hmd->hd", weights, seen[1][:, :end])
    return out.reshape(len(packed), -1), feeds
