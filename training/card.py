"""What is known of a released model in, its ``README.md`` (the model card) out.

Every number comes from the files of the run: corpus.json, bins.json, the checkpoint and what
``evaluate`` measured of it.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from training.bins import BinsInfo, load_info
from training.config import TrainConfig
from training.corpus import CorpusConfig
from training.errors import CorpusError
from training.figures import show_figures
from training.gpt import GPT
from training.samples import DrawnSamples
from training.train import CURVE

CORPUS_OPTIONS = ("seed", "val_share", "max_file_bytes", "max_source_bytes", "near_duplicate")
LIMITS = """## What it is for, and what not

For showing and testing a completion service: latency, batching, streaming, editors. Its texts are
short runs of plausible Python from a few million parameters. It must not be used to write code that
anybody relies on, to judge code or people, or as a source of facts: names, calls and numbers are
made up. It was not tuned to follow instructions and was not tested for bias or harm. It can repeat
lines of its sources, whose licences then apply.
"""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the card tells; ``settings`` are the training settings that differ from the defaults."""

    model: GPT
    num_steps: int
    elapsed_s: float
    val_loss: float
    settings: dict[str, Any]
    bins: BinsInfo
    corpus: dict[str, Any]
    evaluation: Mapping[str, Any] | None
    has_curve: bool

    @classmethod
    def gather(
        cls,
        state: dict[str, Any],
        model: GPT,
        data_dir: Path,
        evaluation: Mapping[str, Any] | None,
        *,
        has_curve: bool,
    ) -> "Facts":
        """Collect them from a loaded checkpoint and the folder of its data."""
        path = data_dir / "corpus.json"
        if not path.is_file():
            raise CorpusError(f"{path} is missing: run `python -m training corpus` first")
        defaults = {field.name: field.default for field in fields(TrainConfig)}
        trained = state.get("config", {})
        return cls(
            model=model,
            num_steps=state.get("iter_num", 0),
            elapsed_s=state.get("elapsed_s", 0.0),
            val_loss=float(state.get("best_val_loss", math.nan)),
            settings={k: v for k, v in trained.items() if k in defaults and v != defaults[k]},
            bins=load_info(data_dir),
            corpus=json.loads(path.read_text(encoding="utf-8")),
            evaluation=evaluation,
            has_curve=has_curve,
        )

    @property
    def trained_with(self) -> TrainConfig:
        return TrainConfig(**self.settings)

    @property
    def tokens_seen(self) -> int:
        return self.num_steps * self.trained_with.tokens_per_step

    @property
    def tokens_evaluated(self) -> int:
        config = self.trained_with
        return config.eval_batches * config.batch_size * config.block_size

    @property
    def bits_per_byte(self) -> float:
        """The validation loss per byte of text, comparable between tokenizers."""
        return self.val_loss / math.log(2) * self.bins.val_tokens / self.bins.val_bytes


def write_card(path: Path, facts: Facts, samples: DrawnSamples) -> None:
    parts = [_header(facts), LIMITS, _measured(facts)]
    if facts.evaluation:
        parts.append(_evaluation(facts.evaluation))
    parts += [_data(facts), _commands(facts), samples.as_markdown()]
    path.write_text("\n".join(parts), encoding="utf-8")


def _header(facts: Facts) -> str:
    model = facts.model.config
    shape = f"{model.n_layer} layers, {model.n_head} heads, width {model.n_embd}"
    return f"""# A small Python completion model

GPT-2 architecture: {shape}, context {model.block_size}, vocabulary {model.vocab_size}, FP16
weights. It shows a service at work on any laptop: it indents, closes brackets and writes code that
looks like Python. It does not know what the code means, knows no other language, and may repeat its
sources: do not ship what it writes.

`model.safetensors` and `config.json` load as `GPT2LMHeadModel`. `tokenizer.tiktoken` holds the
ranks of a byte-level BPE tokenizer for tiktoken, `tokenizer.json` its split pattern and special
tokens (it is not in the format of Hugging Face tokenizers). {_infill(facts.trained_with)}
"""


def _infill(config: TrainConfig) -> str:
    if not config.fim_rate:
        return "The fill-in-the-middle tokens have ids\nbut were not trained."
    return (
        f"{config.fim_rate:.0%} of the documents were\nseen rearranged for fill-in-the-middle, "
        f"{config.fim_spm_rate:.0%} of those with the suffix first."
    )


def _measured(facts: Facts) -> str:
    bins = facts.bins
    rows = (
        ("parameters, position embedding left out", f"{facts.model.num_parameters:,}"),
        ("training", f"{facts.num_steps:,} steps in {facts.elapsed_s / 60:.0f} minutes"),
        ("tokens seen", f"{facts.tokens_seen:,}, drawn from {bins.train_tokens:,}"),
        ("tokens a second", f"{facts.tokens_seen / max(facts.elapsed_s, 1):,.0f}"),
        (
            f"held-out loss, on {facts.tokens_evaluated:,} tokens",
            f"{facts.val_loss:.3f} nats a token",
        ),
        ("held-out bits a byte", f"{facts.bits_per_byte:.3f}"),
        ("bytes a token, held-out", f"{bins.val_bytes / bins.val_tokens:.2f}"),
    )
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    curve = f"\n![Loss by step, training and held-out]({CURVE})\n" if facts.has_curve else ""
    return f"## Measured\n\n| what | value |\n| --- | --- |\n{table}\n{curve}"


def _evaluation(report: Mapping[str, Any]) -> str:
    settings = report["settings"]
    text = "all held-out tokens"
    if settings["max_tokens"]:
        text = f"the first {settings['max_tokens']:,} held-out tokens"
    return f"""## Evaluation

Of the checkpoint (SHA-256 {settings["checkpoint_sha256"][:16]}), before it was rounded to FP16: on
{text}; on functions of the held-out files, cut at a random line and
completed greedily and at temperature {settings["temperature"]} ("unfinished": those that
do not parse as they were cut); and on single lines taken out of such functions.

```
{show_figures(report)}
```
"""


def _data(facts: Facts) -> str:
    sources = facts.corpus["sources"]
    table = "\n".join(
        f"| {s['name']} | {s['licence']} | {s['files']} | {s['bytes'] / 1e6:.2f} |" for s in sources
    )
    dropped = ", ".join(f"{n} {reason}" for reason, n in facts.corpus["dropped"].items()) or "none"
    files = facts.corpus["files"]
    return f"""## Data

Python sources as installed, without tests and vendored code; {files["train"]} files to train on and
{files["val"]} held out. Files dropped: {dropped}. The licences are as the packages declare them (a
wheel's may name those of its compiled parts too); the weights are derived from these texts.

| source | licence | files | MB |
| --- | --- | --- | --- |
{table}
"""


def _commands(facts: Facts) -> str:
    names = [source["name"] for source in facts.corpus["sources"]]
    trees = " ".join("STDLIB" if re.match(r"python\d", name) else f"SITE/{name}" for name in names)
    if not facts.corpus.get("named_sources", True):
        trees = ""  # what the command takes by itself
    defaults = {field.name: field.default for field in fields(CorpusConfig)}
    for name in CORPUS_OPTIONS:
        if (value := facts.corpus.get(name, defaults[name])) != defaults[name]:
            trees += f" --{name.replace('_', '-')} {value}"
    settings = " ".join(f"--set {k}={json.dumps(v)}" for k, v in facts.settings.items())
    return f"""## Commands

`STDLIB` is the folder of the standard library and `SITE` that of the installed packages.

    python -m training corpus {trees.strip()} --out DATA
    python -m training tokenizer --data DATA --vocab-size {facts.bins.vocab_size}
    python -m training train --data DATA --out RUN {settings}
    python -m training release --data DATA --checkpoint RUN/ckpt.pt --out DEMO
"""
