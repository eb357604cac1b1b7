"""Sizes in, optimization profiles out: the shapes that a plan takes, by the dialect's inputs.

Knows nothing of TensorRT.
"""

from dataclasses import dataclass

from export.builder import Profile, Shapes
from export.caches import KvForm, num_positions
from nanotriton import contract
from nanotriton.manifest import Manifest


@dataclass(frozen=True, slots=True)
class _Range:
    """Least, likeliest and largest size of an axis."""

    least: int
    best: int
    most: int


def profiles_of(manifest: Manifest, kv: KvForm, max_batch: int, chunk: int) -> list[Profile]:
    """Prompts of one sequence and decode steps of many (static), or one profile for all."""
    context = manifest.context
    one, many = _Range(1, 1, 1), _Range(1, max_batch, max_batch)
    tokens = _Range(1, min(chunk, context), min(chunk, context))
    if kv == "static":
        rows = _Range(1, 1, tokens.most)  # a prompt wants its last, a verified draft all
        prefill = _profile(manifest, one, tokens, rows, None)
        return [prefill, _profile(manifest, many, one, many, None)]
    if kv == "concat":
        past = _Range(0, context // 2, context - 1)
        return [_profile(manifest, many, _Range(1, 1, tokens.most), one, past)]
    whole = _Range(1, context, context)
    return [_profile(manifest, many, whole, _Range(1, min(16, tokens.most), tokens.most), None)]


def _profile(
    manifest: Manifest, batch: _Range, tokens: _Range, asked: _Range, past: _Range | None
) -> Profile:
    """Every form's inputs; the builder takes those that its graph has."""
    length = past or _Range(*[num_positions(manifest.context, manifest.head_dim)] * 3)
    heads, head_dim = manifest.num_heads, manifest.head_dim
    profile = {
        contract.GRAPH_INPUT_IDS: _shapes(batch, tokens),
        contract.GRAPH_POSITION_IDS: _shapes(batch, tokens),
        contract.GRAPH_WRITE_INDICES: _shapes(batch),
        contract.GRAPH_ROWS: _shapes(asked),
        contract.GRAPH_PLACES: _shapes(batch, asked),
        contract.GRAPH_TARGETS: _shapes(batch, asked),
    }
    cache = _shapes(batch, _Range(*[heads] * 3), length, _Range(*[head_dim] * 3))
    for layer in range(manifest.num_layers):
        profile |= {contract.past_name(layer, kind): cache for kind in "kv"}
    return profile


def _shapes(*axes: _Range) -> Shapes:
    return Shapes(
        tuple(axis.least for axis in axes),
        tuple(axis.best for axis in axes),
        tuple(axis.most for axis in axes),
    )
