"""The command line of the model registry: options of ``train``, and the stage ``register``.

Knows how a registry is chosen: the option, else the one that a resumed run or a run's folder
remembers, else MLFLOW_TRACKING_URI, else the folder ``registry``.
"""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.checkpoint import load_checkpoint
from training.errors import ConfigError, RegistryError, TrainingError
from training.processes import Place
from training.recording import CHECKPOINT, Recording, read_state
from training.registry import DEFAULT_NAME, DEFAULT_STORE, Target

REGISTRY_HELP = (
    "an MLflow server's or database's URI, or a folder (default: MLFLOW_TRACKING_URI, else the "
    f"folder {DEFAULT_STORE!r})"
)


def add_registry(train: argparse.ArgumentParser) -> None:
    """The options of ``train``."""
    train.add_argument(
        "--registry",
        nargs="?",
        const="",
        metavar="URI",
        help=f"log the run and register its checkpoint with MLflow: {REGISTRY_HELP}",
    )
    train.add_argument(
        "--register", metavar="NAME", help=f"with --registry, the model's name ({DEFAULT_NAME})"
    )


def add_stage(stages: Any, common: argparse.ArgumentParser) -> None:
    """The stage ``register``."""
    register = stages.add_parser(
        "register", parents=[common], help="a finished run's folder -> a version in the registry"
    )
    register.add_argument("run", type=Path, metavar="RUN", help="folder of `train`")
    register.add_argument(
        "--data", type=Path, help="folder of the tokenizer (default: the one logged with)"
    )
    register.add_argument("--registry", metavar="URI", help=REGISTRY_HELP)
    register.add_argument("--name", help=f"the model's name ({DEFAULT_NAME})")
    register.set_defaults(stage=run_register)


def recording_of(
    arguments: argparse.Namespace,
    settings: Mapping[str, Any],
    environment: Mapping[str, str],
    place: Place,
) -> Recording | None:
    """What ``train`` was asked to record; None if nothing, and in all but the first process.

    Raises RegistryError or ConfigError, in all processes together.
    """
    if arguments.registry is None:
        if arguments.register is not None:
            raise ConfigError(f"--register {arguments.register} needs --registry: add it")
        return None
    recording: Recording | None = None
    refusal: TrainingError | None = None
    if place.is_first:
        try:
            recording = _start_recording(arguments, settings, environment)
        except TrainingError as error:
            refusal = error
    if any(place.sum([float(refusal is not None)])):
        raise refusal or RegistryError("the first process was refused: mend what it says")
    return recording


def _start_recording(
    arguments: argparse.Namespace, settings: Mapping[str, Any], environment: Mapping[str, str]
) -> Recording:
    known = read_state(arguments.out) if arguments.resume else None
    store = arguments.registry or (known.place if known else _default_place(environment))
    name = arguments.register or (known.name if known else DEFAULT_NAME)
    target = Target(store, name, arguments.data)
    return Recording(target, arguments.out, settings, arguments.resume)


def run_register(arguments: argparse.Namespace) -> Mapping[str, object]:
    """Send a run's folder as it stands."""
    settings = load_checkpoint(arguments.run / CHECKPOINT).get("config", {})
    known = read_state(arguments.run)
    data_dir = arguments.data or (Path(known.data_dir) if known else None)
    if data_dir is None:
        raise ConfigError(
            f"{arguments.run} does not know its tokenizer: give the folder of the data with --data"
        )
    place = arguments.registry or (known.place if known else _default_place(os.environ))
    name = arguments.name or (known.name if known else DEFAULT_NAME)
    recording = Recording(Target(place, name, data_dir), arguments.run, settings, resume=True)
    return {"registered": recording.send_all()}


def _default_place(environment: Mapping[str, str]) -> str:
    return environment.get("MLFLOW_TRACKING_URI") or DEFAULT_STORE
