"""A checkpoint and the data it was trained on in; how good it is, beside simple rivals, out.

Likelihood of the held-out text (against a trigram model of the training text, and zlib), functions
completed so that they parse (against the trigram model, and adding nothing), and single lines
filled in. On the CPU. Knows nothing of training.
"""

import platform
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from training.bins import Blocks
from training.completion import CompletionConfig
from training.errors import CheckpointError, ConfigError, CorpusError
from training.figures import Report
from training.functions import (
    MAX_BODY_LINES,
    MIN_BODY_LINES,
    Cut,
    Function,
    Trimmed,
    draw_cuts,
    draw_holes,
    find_functions,
)
from training.likelihood import measure_model, measure_trigram, zlib_bits_per_byte
from training.ngram import Trigram, TrigramPredictor
from training.prediction import ModelPredictor, Predictor
from training.shares import (
    ParseShare,
    Share,
    complete_functions,
    measure_infill,
    measure_parsing,
)
from training.subject import Subject, file_sha256, load_subject

Tokens = npt.NDArray[np.uint16]
MAX_COMPLETION_TOKENS = 160  # some 500 characters, 12 lines
MIN_CONTEXT = 16  # half of it for a completion, the rest for the markers and text around it
CUTS, HOLES = 0, 1  # independent random streams of one seed


@dataclass(frozen=True, slots=True)
class EvaluateConfig:
    """``samples`` functions; ``max_tokens`` held-out tokens from the first one on, None: all."""

    samples: int = 100
    seed: int = 1337
    temperature: float = 0.4
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ConfigError(f"samples is {self.samples}, it must be at least 1")
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}, it must be at least 0")
        if self.temperature <= 0:
            raise ConfigError(
                f"temperature is {self.temperature}, it must be above 0: greedy is measured anyway"
            )
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ConfigError(f"max_tokens is {self.max_tokens}, it must be at least 1")


def evaluate(checkpoint: Path, data_dir: Path, config: EvaluateConfig) -> Report:
    """Measure all; raises TrainingError where the files are missing or do not fit together."""
    subject = load_subject(checkpoint, data_dir)
    if (context := subject.model.config.block_size) < MIN_CONTEXT:
        raise CheckpointError(
            f"{checkpoint} reads {context} tokens, completing takes {MIN_CONTEXT}: "
            "train with a larger block_size"
        )
    val, trigram = _load_data(subject, data_dir)
    functions = [f for text in held_out_texts(val, subject) for f in find_functions(text)]
    cuts = draw_cuts(functions, config.samples, np.random.default_rng((config.seed, CUTS)))
    if not cuts:
        raise CorpusError(
            f"{data_dir / 'val.bin'} holds no function of {MIN_BODY_LINES} to "
            f"{MAX_BODY_LINES} lines to cut: add source trees"
        )
    tokens = val[: config.max_tokens]
    text = subject.bytes_of(tokens)
    if not text:
        raise CorpusError(
            f"the first {len(tokens)} tokens of {data_dir / 'val.bin'} hold no text: "
            "raise max_tokens"
        )
    return Report(
        settings=_describe(checkpoint, data_dir, subject, config),
        likelihood={
            "model": measure_model(subject.model, tokens, subject.end_of_text, len(text)),
            "trigram": measure_trigram(trigram, tokens, len(text)),
        },
        zlib_bits_per_byte=zlib_bits_per_byte(text),
        parsing=_complete_functions(subject, trigram, cuts, config),
        infill=_fill_lines(subject, functions, config),
    )


def _load_data(subject: Subject, data_dir: Path) -> tuple[Tokens, Trigram]:
    """The held-out tokens, and the trigram model of the training tokens."""
    train, val = (Blocks.load(data_dir, split, block_size=1).tokens for split in ("train", "val"))
    for name, tokens in (("train.bin", train), ("val.bin", val)):
        if tokens.max() >= subject.spec.vocab_size:
            raise CorpusError(
                f"{data_dir / name} holds id {tokens.max()}, the tokenizer has "
                f"{subject.spec.vocab_size} ids: take the data of the model"
            )
    return val, Trigram.fit(train, subject.spec.vocab_size, subject.end_of_text)


def held_out_texts(tokens: Tokens, subject: Subject) -> list[str]:
    """The documents, without their special tokens."""
    ends = np.flatnonzero(tokens == subject.end_of_text) + 1
    documents = (subject.decode(part) for part in np.split(tokens, ends))
    return [document for document in documents if document]


def _complete_functions(
    subject: Subject, trigram: Trigram, cuts: list[Cut], config: EvaluateConfig
) -> dict[str, ParseShare]:
    """Nothing added, then the model and the trigram model, each greedy and sampled."""
    shares = {"nothing added": measure_parsing(cuts, [Trimmed("", ended=True)] * len(cuts))}
    rivals: dict[str, Predictor] = {
        "model": ModelPredictor(subject.model, subject.spec.vocab_size),
        "trigram": TrigramPredictor(trigram),
    }
    for name, predictor in rivals.items():
        for how, temperature in (("greedy", 0.0), ("sampled", config.temperature)):
            settings = _completion(subject, config, temperature)
            added = complete_functions(cuts, predictor, subject, settings)
            shares[f"{name}, {how}"] = measure_parsing(cuts, added)
    return shares


def _fill_lines(
    subject: Subject, functions: list[Function], config: EvaluateConfig
) -> Share | None:
    if not subject.fim_trained:
        return None
    holes = draw_holes(functions, config.samples, np.random.default_rng((config.seed, HOLES)))
    predictor = ModelPredictor(subject.model, subject.spec.vocab_size)
    return measure_infill(holes, predictor, subject, _completion(subject, config, 0.0))


def _completion(subject: Subject, config: EvaluateConfig, temperature: float) -> CompletionConfig:
    """A completion takes at most half the context: the rest is for what stands before it."""
    max_tokens = min(MAX_COMPLETION_TOKENS, subject.model.config.block_size // 2)
    return CompletionConfig(max_tokens, temperature, config.seed)


def _describe(
    checkpoint: Path, data_dir: Path, subject: Subject, config: EvaluateConfig
) -> dict[str, object]:
    return {
        "checkpoint": str(checkpoint),
        "checkpoint_sha256": subject.sha256,
        "parameters": subject.model.num_parameters,
        "model": asdict(subject.model.config),
        "fim_trained": subject.fim_trained,
        "data": str(data_dir),
        "train_sha256": file_sha256(data_dir / "train.bin"),
        "val_sha256": file_sha256(data_dir / "val.bin"),
        **asdict(config),
        "max_completion_tokens": _completion(subject, config, 0.0).max_tokens,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
