"""A float32 model and a text in, what stood in some of its tensors out: rows of floats.

Instead of a text, tokens as training writes them (train.bin, val.bin: uint16 ids of the model's own
vocabulary). The model runs on windows spread evenly over the text, or on some drawn by a seed, in
float32 and without a past. Rows lie in
files until they are asked for: those of GPT-2 124M are 0.7 GB at 4,096 tokens. Knows nothing of
quantization. The default text shares no file with that of `export.parity`, for a gate must not be
measured on what the weights were fitted to.
"""

import argparse
import dataclasses
import difflib
import hashlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from export.model_file import Model, write_model
from export.parity import Ids, Progress, encode_known, read_text, source_text
from export.vocabulary import Vocabulary
from nanotriton import contract
from nanotriton.errors import ArtifactError, ParityError

DEFAULT_SOURCES = (argparse, dataclasses, difflib, inspect)
DEFAULT_TOKENS = 4096
MIN_TOKENS = 1024  # demo model: 64 do harm (KL 8.6e-3, plain 6.6e-3), 512 are no help
MAX_WINDOW = 256
BINS, TOKEN_BYTES = ".bin", 2  # files of training's, uint16

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What to run on: about `num_tokens` tokens of `text`, which may be a file's tokens (N,).

    `num_samples` windows at places that `seed` draws, if given, take the place of that number.
    """

    text: str | NDArray[np.uint16]
    num_tokens: int
    progress: Progress
    num_samples: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_samples is None and self.num_tokens < MIN_TOKENS:
            raise ArtifactError(
                f"calibration on {self.num_tokens} tokens is no help: take at least "
                f"{MIN_TOKENS}, or --rounding nearest"
            )

    @property
    def sha256(self) -> str:
        """SHA-256 of the whole text, or of its tokens."""
        if isinstance(self.text, str):
            return sha256_text(self.text)
        return hashlib.sha256(self.text.tobytes()).hexdigest()

    def windows(self, vocabulary: Vocabulary, context: int) -> list[Ids]:
        """Sequences that the model can read; raises ArtifactError when the text is too short."""
        ids = self._ids(vocabulary)
        if len(ids) < MIN_TOKENS:
            raise ArtifactError(
                f"the calibration text has {len(ids)} tokens of this vocabulary, at least "
                f"{MIN_TOKENS} are needed: give a longer one with --calibration"
            )
        longest = min(MAX_WINDOW, context)
        if self.num_samples is not None:
            return self._samples(ids, longest)
        num_tokens = min(self.num_tokens, len(ids))
        num_windows = -(-num_tokens // longest)
        starts = np.arange(num_windows) * len(ids) // num_windows
        lengths = np.diff(np.arange(num_windows + 1) * num_tokens // num_windows)
        return [ids[at : at + size] for at, size in zip(starts, lengths, strict=True)]

    def _samples(self, ids: Ids, longest: int) -> list[Ids]:
        assert self.num_samples is not None
        least = -(-MIN_TOKENS // longest)
        if self.num_samples < least:
            raise ArtifactError(
                f"calibration on {self.num_samples} samples of {longest} tokens is no help: take "
                f"at least {least} with --calibration-samples, or --rounding nearest"
            )
        places = np.arange(len(ids) // longest) * longest
        random = np.random.default_rng(self.seed)
        drawn = random.choice(places, min(self.num_samples, len(places)), replace=False)
        return [ids[at : at + longest] for at in np.sort(drawn)]

    def _ids(self, vocabulary: Vocabulary) -> Ids:
        if isinstance(self.text, str):
            return encode_known(vocabulary, self.text)
        ids = self.text.astype(np.int64)
        if len(ids) and ids.max() >= vocabulary.tokenizer.num_tokens:
            raise ArtifactError(
                f"the calibration file holds the token {ids.max()}, this vocabulary has "
                f"{vocabulary.tokenizer.num_tokens}: give the file that was made with the "
                "checkpoint's tokenizer"
            )
        return ids


def read_calibration(options: argparse.Namespace, progress: Progress) -> Calibration:
    """Calibration as a command line asks for it; raises ArtifactError for a file that is none."""
    file: Path | None = options.calibration
    if file is None:
        text: str | NDArray[np.uint16] = default_text()
    else:
        text = _read_tokens(file) if file.suffix == BINS else read_text(file, "--calibration")
    return Calibration(
        text, options.calibration_tokens, progress, options.calibration_samples, options.seed
    )


def _read_tokens(file: Path) -> NDArray[np.uint16]:
    content = file.read_bytes()
    if len(content) % TOKEN_BYTES:
        raise ArtifactError(
            f"{file} has {len(content)} bytes, tokens have {TOKEN_BYTES} each: give a train.bin or "
            "val.bin that training wrote, or a text"
        )
    return np.frombuffer(content, "<u2")


def default_text() -> str:
    """Real code that every machine has: other modules of the standard library than parity's."""
    return source_text(DEFAULT_SOURCES)


def sha256_text(text: str) -> str:
    """SHA-256 of a text's UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def check_unseen(calibration_sha256: str, text: str) -> None:
    """Raise ParityError when the text to measure on is the one that an artifact was fitted to."""
    if calibration_sha256 == sha256_text(text):
        raise ParityError(
            "the text to compare on is the one that the version was calibrated on, which flatters "
            "it: give another --text, or another --calibration"
        )


class Rows(Mapping[str, Floats]):
    """By a tensor's name its rows (N, width), read from their file when asked for."""

    def __init__(self, folder: Path, widths: Mapping[str, int]) -> None:
        self._files = {name: folder / f"rows_{i}" for i, name in enumerate(widths)}
        self._widths = widths

    def append(self, name: str, rows: Floats) -> None:
        """Add rows (..., width) at the end."""
        with self._files[name].open("ab") as file:
            rows.tofile(file)

    def __getitem__(self, name: str) -> Floats:
        flat: Floats = np.memmap(self._files[name], np.float32, "r")
        return flat.reshape(-1, self._widths[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def record_rows(
    model: Model, widths: Mapping[str, int], windows: Sequence[Ids], folder: Path
) -> Rows:
    """Run every window, and keep the tensors that `widths` names in `folder`."""
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ("N", width))
        for name, width in widths.items()
    ]
    nodes = _nodes_before(model, widths)
    used = {name for node in nodes for name in node.input}
    weights = {name: model.weights[name] for name in model.weights if name in used}
    inputs = [one for one in model.inputs if one.name in used]
    write_model(Model(nodes, inputs, outputs, weights), folder)
    session = onnxruntime.InferenceSession(
        folder / contract.GRAPH_FILE, providers=["CPUExecutionProvider"]
    )
    rows = Rows(folder, widths)
    for window in windows:
        found = session.run(list(widths), _feeds(session, window))
        for name, array in zip(widths, found, strict=True):
            rows.append(name, array)
    return rows


def _nodes_before(model: Model, names: Mapping[str, int]) -> list[NodeProto]:
    """The nodes that these tensors depend on, in their order."""
    wanted = set(names)
    nodes: list[NodeProto] = []
    for node in reversed(model.nodes):
        if not wanted.isdisjoint(node.output):
            wanted.update(node.input)
            nodes.append(node)
    return nodes[::-1]


def _feeds(session: onnxruntime.InferenceSession, window: Ids) -> dict[str, NDArray[np.generic]]:
    """One sequence as a chunk (1, T) without a past, and no decode rows (see export.attention)."""
    num_tokens = len(window)
    one, total = np.zeros(1, np.int32), np.array([num_tokens], np.int32)
    feeds: dict[str, NDArray[np.generic]] = {
        contract.GRAPH_INPUT_IDS: window,
        contract.GRAPH_POSITION_IDS: np.arange(num_tokens),
        contract.GRAPH_ROWS: np.arange(num_tokens),
        contract.GRAPH_ATTENTION_ROWS: np.arange(num_tokens),
        contract.GRAPH_ATTENDED: np.zeros((1, 1), np.int64),
        contract.GRAPH_SEQLENS_K: one,
        contract.GRAPH_TOTAL_LEN: one + 1,
        contract.chunk_name(contract.GRAPH_ATTENDED): np.arange(num_tokens)[None],
        contract.chunk_name(contract.GRAPH_SEQLENS_K): total - 1,
        contract.chunk_name(contract.GRAPH_TOTAL_LEN): total,
    }
    for value in session.get_inputs():
        if value.name not in feeds:  # a cache (B, H, M, D)
            is_chunk = value.name.startswith(contract.chunk_name(""))
            size = num_tokens if is_chunk else 1
            _, num_heads, _, head_dim = value.shape
            feeds[value.name] = np.zeros((1, num_heads, size, head_dim), np.float32)
    names = {value.name for value in session.get_inputs()}
    return {name: array for name, array in feeds.items() if name in names}
