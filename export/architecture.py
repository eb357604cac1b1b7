"""What a GPT-2 style model is: its sizes, and the tensors that they imply.

Names are Hugging Face's without the `transformer.` prefix; a linear's weight is (in, out), as
Conv1D and ONNX MatMul have it. Knows nothing of files.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nanotriton.errors import CheckpointError

Activation = Literal["gelu_erf", "gelu_tanh"]
# By Hugging Face's names.
ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu_erf",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}
Array = NDArray[np.generic]

EMBEDDING_WEIGHT = "wte.weight"
HEAD_WEIGHT = "lm_head.weight"
LINEARS = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")

# GPT-3 has 96 layers of 96 heads; a number far beyond these is a damaged file.
MAX_SIZES = {
    "num_layers": 1000,
    "num_heads": 1000,
    "head_dim": 1024,
    "vocab_size": 1 << 20,
    "context": 1 << 20,
    "mlp_width": 1 << 20,
}


@dataclass(frozen=True, slots=True)
class Config:
    """Sizes of a model: L layers, H heads of D, V tokens, M positions."""

    num_layers: int
    num_heads: int
    head_dim: int
    vocab_size: int
    context: int
    mlp_width: int
    activation: Activation
    bias: bool = True
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        for name, largest in MAX_SIZES.items():
            size = getattr(self, name)
            if type(size) is not int or not 1 <= size <= largest:
                raise CheckpointError(
                    f"the checkpoint's {name} is {size!r}, it must be a whole number from 1 to "
                    f"{largest}: is the file damaged?"
                )
        if not isinstance(self.epsilon, float) or not 0 < self.epsilon < 1:
            raise CheckpointError(
                f"the checkpoint's layer norm epsilon is {self.epsilon!r}, it must lie between "
                "0 and 1: is the file damaged?"
            )

    @property
    def width(self) -> int:
        """H * D."""
        return self.num_heads * self.head_dim


@dataclass(frozen=True, slots=True)
class RawCheckpoint:
    """A checkpoint as its file has it: names and layouts not yet unified, nothing checked.

    `out_first` says whether linears are (out, in), as torch.nn.Linear has them, `fim_rate` which
    share of the documents it saw rearranged for fill-in-the-middle, `fim_spm_rate` which share of
    those with the suffix first; None when nothing says it.
    """

    config: Config
    weights: dict[str, Array]
    out_first: bool
    sha256: str
    fim_rate: float | None = None
    fim_spm_rate: float | None = None

    def __post_init__(self) -> None:
        for name in ("fim_rate", "fim_spm_rate"):
            rate = getattr(self, name)
            if rate is None or (isinstance(rate, int | float) and 0 <= rate <= 1):
                continue
            raise CheckpointError(
                f"the checkpoint's {name} is {rate!r}, it must lie between 0 and 1: is the file "
                "damaged?"
            )


def split_width(width: object, num_heads: object) -> int:
    """D of a model `width` wide; raises CheckpointError when the heads do not divide it."""
    if type(width) is not int or type(num_heads) is not int or num_heads < 1 or width % num_heads:
        raise CheckpointError(
            f"the checkpoint's n_embd is {width!r} and n_head {num_heads!r}, n_embd must be a "
            "multiple of n_head: is the file damaged?"
        )
    return width // num_heads


def expected_shapes(config: Config, untied_head: bool) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor, linears as (in, out)."""
    width = config.width
    shapes: dict[str, tuple[int, ...]] = {
        EMBEDDING_WEIGHT: (config.vocab_size, width),
        "wpe.weight": (config.context, width),
        "ln_f.weight": (width,),
    }
    linears = {
        "attn.c_attn": (width, 3 * width),
        "attn.c_proj": (width, width),
        "mlp.c_fc": (width, config.mlp_width),
        "mlp.c_proj": (config.mlp_width, width),
    }
    for layer in range(config.num_layers):
        for norm in ("ln_1", "ln_2"):
            shapes[f"h.{layer}.{norm}.weight"] = (width,)
        for linear in LINEARS:
            shapes[f"h.{layer}.{linear}.weight"] = linears[linear]
    if config.bias:
        for name, shape in list(shapes.items()):
            if not name.startswith("w"):
                shapes[name.removesuffix("weight") + "bias"] = shape[-1:]
    if untied_head:
        shapes[HEAD_WEIGHT] = (config.vocab_size, width)
    return shapes


def is_linear(name: str) -> bool:
    """Whether `name` is the weight of a block's linear."""
    return name.removesuffix(".weight").endswith(LINEARS) and name.endswith(".weight")


def missing_file(path: Path) -> CheckpointError:
    """The error of a checkpoint's file that is not there."""
    return CheckpointError(f"{path} does not exist: give a nanoGPT ckpt.pt or a GPT-2 folder")
