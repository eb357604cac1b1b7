"""Prompts in; what a released model makes of them, as the model card shows it, out."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from training.bpe import TokenizerSpec
from training.config import TrainConfig
from training.gpt import GPT
from training.sample import SampleConfig, sample_middle, sample_text

PROMPTS = ("def fib(n):", "def read_lines(path):\n    with open(path")
OPEN, CLOSE = "\u27e6", "\u27e7"  # white square brackets, which no Python source has


@dataclass(frozen=True, slots=True)
class Hole:
    """A text with a middle to fill in."""

    prefix: str
    suffix: str


HOLES = (
    Hole(
        "class Point:\n    def __init__(self, x, y):\n        self.x = x\n        ",
        "\n\n    def norm(self):\n        return math.sqrt(self.x ** 2 + self.y ** 2)\n",
    ),
    Hole("def mean(values):\n    total = ", "\n    return total / len(values)\n"),
    Hole("for name in ", ":\n    print(name)\n"),
)


@dataclass(frozen=True, slots=True)
class DrawnSamples:
    """Texts as they came; ``fillings`` with the middle between OPEN and CLOSE."""

    completions: Sequence[str]
    fillings: Sequence[str]
    sampling: SampleConfig

    def as_markdown(self) -> str:
        how = f"temperature {self.sampling.temperature}, seed {self.sampling.seed}"
        blocks = [_block(text) for text in self.completions]
        if self.fillings:
            blocks.append(f"Filled in, between {OPEN} and {CLOSE}:\n")
            blocks += [_block(text) for text in self.fillings]
        text = "\n".join(blocks)
        return f"## Samples\n\nThe FP16 weights at {how}, as they came:\n\n{text}"


@dataclass(frozen=True, slots=True)
class Samples:
    """What to try on a model; the holes only on one that was trained to fill them."""

    prompts: Sequence[str] = PROMPTS
    holes: Sequence[Hole] = HOLES
    sampling: SampleConfig = field(default_factory=SampleConfig)

    def draw(self, model: GPT, spec: TokenizerSpec, trained_with: TrainConfig) -> DrawnSamples:
        """Run the model; raises ConfigError for an empty prompt."""
        completions = [sample_text(model, spec, one, self.sampling) for one in self.prompts]
        fillings = []
        for hole in self.holes if trained_with.fim_rate else ():
            suffix_first = trained_with.fim_spm_rate > 0
            middle = sample_middle(
                model, spec, hole.prefix, hole.suffix, self.sampling, suffix_first=suffix_first
            )
            fillings.append(f"{hole.prefix}{OPEN}{middle}{CLOSE}{hole.suffix}")
        return DrawnSamples(completions, fillings, self.sampling)


def _block(text: str) -> str:
    return f"```python\n{text.rstrip()}\n```\n"
