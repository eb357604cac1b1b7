"""A JSON or TOML file and ``name=value`` overrides in; a validated TrainConfig out.

Unknown names are refused. Knows nothing of PyTorch and reads no environment variable.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from training.errors import ConfigError

T = TypeVar("T")
DTYPES = ("float32", "bfloat16", "auto")
OPTIMIZERS = ("adamw", "muon")
SCRATCH = "scratch"
AT_LEAST_ONE = ("batch_size", "accumulation", "eval_every", "eval_batches", "log_every")
SHARES = ("fim_rate", "fim_spm_rate")


def setting(default: T, text: str) -> T:
    """A field with its help, which ``describe_settings`` prints."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Every knob of one run. A step is ``tokens_per_step`` tokens, over all processes together.

    The run ends at ``max_steps`` or after ``max_minutes`` of training, whichever comes first (0
    switches a limit off); the learning rate follows the larger share used up, so it always reaches
    its end. The default model is the demo's.
    """

    init_from: str = setting(SCRATCH, "scratch, or a Hugging Face GPT-2 folder to fine-tune")
    block_size: int = setting(512, "context length in tokens")
    n_layer: int = setting(5, "transformer blocks")
    n_head: int = setting(4, "attention heads")
    n_embd: int = setting(256, "width, a multiple of n_head")
    dropout: float = setting(0.0, "share of activations dropped, 0 to below 1")
    bias: bool = setting(True, "biases in linear layers and layer norms, as GPT-2 has")

    batch_size: int = setting(16, "blocks in one forward pass")
    accumulation: int = setting(1, "forward passes a step, shared out among the processes")
    max_steps: int = setting(5000, "steps the run takes, 0: no limit")
    max_minutes: float = setting(0.0, "minutes the run takes, 0: no limit; not resumed exactly")
    optimizer: str = setting("adamw", "adamw, or muon: that on the matrices of the blocks")
    learning_rate: float = setting(2e-3, "the highest, reached after the warm-up")
    min_learning_rate: float = setting(2e-5, "the last")
    warmup_share: float = setting(0.02, "share of the run in which the rate rises")
    weight_decay: float = setting(0.1, "on matrices and embeddings")
    beta1: float = setting(0.9, "AdamW's memory of gradients")
    beta2: float = setting(0.95, "AdamW's memory of their squares")
    grad_clip: float = setting(1.0, "longest gradient, 0: no limit")

    fim_rate: float = setting(0.0, "share of documents to train fill-in-the-middle on")
    fim_spm_rate: float = setting(0.5, "share of those with the suffix first (SPM, not PSM)")

    eval_every: int = setting(250, "steps between two validations; each writes last.pt")
    eval_batches: int = setting(20, "batches of held-out blocks a validation reads")
    patience: int = setting(0, "validations without a new best before the run ends, 0: no limit")
    log_every: int = setting(10, "steps between two lines of the log")
    dtype: str = setting("float32", "float32, bfloat16 (autocast) or auto: bfloat16 where native")
    compile: bool = setting(False, "torch.compile; takes a minute, pays from some hundred steps on")
    seed: int = setting(1337, "of the weights, the order of the data, FIM and dropout")

    def __post_init__(self) -> None:
        for name in AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, it must be at least 1")
        for name in SHARES:
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name} is {getattr(self, name)}, it must lie between 0 and 1")
        for name in ("patience", "seed", "grad_clip"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}, it must be at least 0")
        if self.max_steps < 0 or self.max_minutes < 0 or not (self.max_steps or self.max_minutes):
            raise ConfigError(
                f"max_steps is {self.max_steps} and max_minutes {self.max_minutes}: "
                "neither may be negative and one must be above 0"
            )
        if not 0.0 <= self.min_learning_rate <= self.learning_rate:
            raise ConfigError(
                f"min_learning_rate is {self.min_learning_rate}, it must lie between 0 and "
                f"learning_rate {self.learning_rate}"
            )
        if not 0.0 <= self.warmup_share < 1.0:
            raise ConfigError(
                f"warmup_share is {self.warmup_share}, it must be at least 0 and below 1"
            )
        for name, known in (("dtype", DTYPES), ("optimizer", OPTIMIZERS)):
            if getattr(self, name) not in known:
                raise ConfigError(
                    f"{name} is {getattr(self, name)!r}, it must be one of {', '.join(known)}"
                )

    @property
    def tokens_per_step(self) -> int:
        return self.batch_size * self.accumulation * self.block_size


def load_config(path: Path | None, overrides: Sequence[str] = ()) -> TrainConfig:
    """The file's settings over the defaults, then the ``name=value`` overrides over both."""
    parsed = dict(_parse_override(override) for override in overrides)
    settings = _read(path) if path else {}
    _check(settings, where=str(path))
    _check(parsed, where="--set")
    return TrainConfig(**(settings | parsed))


def describe_settings() -> str:
    """One line a setting: name, default and what it is."""
    lines = (
        f"  {f.name}={json.dumps(f.default)}".ljust(30) + f.metadata["help"]
        for f in fields(TrainConfig)
    )
    return "\n".join(lines)


def changed_settings(old: Mapping[str, Any], config: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """Settings of an earlier run that are others now, as (then, now)."""
    now = {f.name: getattr(config, f.name) for f in fields(config)}
    return {name: (old[name], now[name]) for name in now if name in old and old[name] != now[name]}


def adopt_shape(config: TrainConfig, shape: Mapping[str, Any], where: Path) -> TrainConfig:
    """``config`` with the sizes of a model that exists already.

    Raises ConfigError for a size that was set to something else; one left at its default adopts.
    """
    defaults = {f.name: f.default for f in fields(TrainConfig)}
    for name, given in shape.items():
        asked = getattr(config, name)
        if asked not in (given, defaults[name]):
            raise ConfigError(f"{name} is {asked}, {where} has {given}: leave it out")
    return replace(config, **shape)


def _check(settings: Mapping[str, Any], where: str) -> None:
    """Raises ConfigError for a wrong name or type."""
    types = {f.name: f.type for f in fields(TrainConfig)}
    for name, value in settings.items():
        if name not in types:
            raise ConfigError(f"{where}: unknown setting {name!r}; known are {', '.join(types)}")
        wanted = types[name]
        fits = type(value) is wanted or (wanted is float and type(value) is int)
        if not fits:
            raise ConfigError(f"{where}: {name} is {value!r}, it must be {wanted}")


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        settings = _parse_toml(text, path) if path.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path} ({error}): give a JSON or TOML file") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"{path} holds a {type(settings).__name__}, it must hold named settings")
    return settings


def _parse_toml(text: str, path: Path) -> dict[str, Any]:
    try:
        import tomllib  # noqa: PLC0415  (Python 3.10 has none, and JSON needs none)
    except ModuleNotFoundError:
        raise ConfigError(f"{path} is TOML, this needs Python 3.11: write it as JSON") from None
    return tomllib.loads(text)


def _parse_override(override: str) -> tuple[str, Any]:
    name, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"--set {override}: write it as name=value")
    try:
        return name, json.loads(text)
    except ValueError:
        return name, text
