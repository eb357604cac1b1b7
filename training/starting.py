"""Settings in; what a run starts with out: its data, its model, its dtype.

Knows nothing of steps.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from training.batches import BlockStream
from training.bins import Blocks, load_info
from training.bpe import END_OF_TEXT, load_tokenizer
from training.config import SCRATCH, TrainConfig, adopt_shape
from training.errors import TokenizerError
from training.gpt import GPT, GPTConfig
from training.infill import Infill, Markers
from training.pretrained import load_pretrained, read_shape

VAL_SEED = 0  # the same held-out blocks whatever the run's seed
ADOPTED = ("n_layer", "n_head", "n_embd", "bias")


@dataclass(frozen=True, slots=True)
class Streams:
    """Both splits as endless blocks; the held-out text is never rearranged."""

    train: BlockStream
    val: BlockStream


def load_streams(config: TrainConfig, data_dir: Path) -> Streams:
    """Raises CorpusError when a split is missing or short, TokenizerError without FIM tokens."""
    train = Blocks.load(data_dir, "train", config.block_size).tokens
    val = Blocks.load(data_dir, "val", config.block_size).tokens
    special_tokens = load_tokenizer(data_dir).special_tokens
    end = special_tokens[END_OF_TEXT]
    infill = None
    if config.fim_rate:
        infill = Infill(config.fim_rate, config.fim_spm_rate, Markers.of(special_tokens))
    return Streams(
        BlockStream(train, config.block_size, end, config.seed, infill),
        BlockStream(val, config.block_size, end, VAL_SEED),
    )


def adopt_pretrained(config: TrainConfig) -> TrainConfig:
    """The settings with the sizes of ``init_from``'s model, or as they are."""
    if config.init_from == SCRATCH:
        return config
    folder = Path(config.init_from)
    shape = asdict(read_shape(folder, config.block_size, config.dropout))
    return adopt_shape(config, {name: shape[name] for name in ADOPTED}, folder)


def make_model(config: TrainConfig, data_dir: Path) -> GPT:
    """Random weights of ``seed``, or those of ``init_from`` when its tokenizer is the data's."""
    vocab_size = load_info(data_dir).vocab_size
    if config.init_from == SCRATCH:
        torch.manual_seed(config.seed)
        return GPT(
            GPTConfig(
                block_size=config.block_size,
                vocab_size=vocab_size,
                n_layer=config.n_layer,
                n_head=config.n_head,
                n_embd=config.n_embd,
                dropout=config.dropout,
                bias=config.bias,
            )
        )
    folder = Path(config.init_from)
    model = load_pretrained(folder, config.block_size, config.dropout)
    own = folder / "tokenizer.tiktoken"
    if own.is_file() and load_tokenizer(folder) != load_tokenizer(data_dir):
        raise TokenizerError(
            f"{folder} and {data_dir} have different tokenizers: encode the data with the model's"
        )
    if vocab_size > model.config.vocab_size:
        raise TokenizerError(
            f"{data_dir} has {vocab_size} ids, {folder} reads {model.config.vocab_size}: "
            "encode the data with the model's tokenizer"
        )
    return model


def pick_dtype(name: str, device: str) -> torch.dtype:
    """The setting's dtype; "auto" is bfloat16 where the machine multiplies it without emulation."""
    if name != "auto":
        return torch.bfloat16 if name == "bfloat16" else torch.float32
    if torch.device(device).type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if native else torch.float32
