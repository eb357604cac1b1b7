"""What `nanotriton tune` measured of a version on a machine: tuned.json beside the manifest.

Comes in: a version's folder. Goes out: settings of the engine, with the figures that chose them.
They hold where nothing is said in gpt/config.pbtxt, and only on the machine that measured them.
Knows nothing of how they were measured (`nanotriton.tuning`).
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime

from nanotriton.errors import ManifestError
from nanotriton.machine import Machine

TUNED_FILE = "tuned.json"
SETTINGS = ("threads", "max_decode_rows", "prefill_chunk", "max_slots")


@dataclass(frozen=True, slots=True)
class Choice:
    """One setting: what was chosen, from which figures (candidate to `unit`, more is better).

    `noise` is how far apart a figure of the even and of the odd rounds lie, the largest of them.
    """

    value: int
    unit: str
    figures: dict[str, float]
    noise: float

    def __post_init__(self) -> None:
        if type(self.value) is not int or self.value < 0:
            raise ValueError(f"{self.value!r} is no whole number from 0 up")


@dataclass(frozen=True, slots=True)
class Tuned:
    """Choices by the name of their setting, and where they hold."""

    cpu: str
    num_cores: int
    onnxruntime: str
    created_at: str
    choices: dict[str, Choice]

    def save(self, folder: Path) -> None:
        """Write `folder`/tuned.json at one instant."""
        temporary = folder / f".{TUNED_FILE}.tmp"
        temporary.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n")
        temporary.replace(folder / TUNED_FILE)

    def check(self, machine: Machine) -> None:
        """Raise ManifestError when it was measured elsewhere, or on another runtime."""
        there = f"{self.cpu}, {self.num_cores} cores, onnxruntime {self.onnxruntime}"
        here = f"{machine}, onnxruntime {onnxruntime.__version__}"
        if there != here:
            raise ManifestError(
                f"{TUNED_FILE} was measured on another machine ({there}; this is {here}): run "
                "`nanotriton tune` here, or remove it"
            )


def read_tuned(folder: Path) -> Tuned | None:
    """What lies in a version's folder, None when it was not tuned; raises ManifestError."""
    path = folder / TUNED_FILE
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        choices = {name: Choice(**one) for name, one in values.pop("choices").items()}
        if unknown := choices.keys() - set(SETTINGS):
            raise ValueError(f"unknown settings {', '.join(sorted(unknown))}")
        return Tuned(choices=choices, **values)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ManifestError(
            f"{path} can't be read ({error}): run `nanotriton tune` again, or remove it"
        ) from None
