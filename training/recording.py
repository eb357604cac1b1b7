"""A run's folder in; an MLflow run with its settings, metrics and files, and a model version, out.

A Recording follows a run: metrics go out after each validation, files and the version at the end.
All it sends it reads from the run's folder, so that a folder can be sent later too; its
``registry.json`` remembers the MLflow run and up to which step its metrics are sent.

The weights never depend on the registry: once a run has begun, a failure is a line on stderr. What
``export`` relies on: a version's files are one folder with ckpt.pt and the tokenizer beside it, and
the version's tag ``sha256`` is that of ckpt.pt. Knows nothing of models and of how they learn.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from training.errors import RegistryError, TrainingError
from training.files import write_json
from training.registry import Target, connect, error_code, explained
from training.runlog import RunLog
from training.subject import file_sha256

STATE = "registry.json"
CHECKPOINT, LOG, CURVE = "ckpt.pt", "log.jsonl", "curve.png"
TOKENIZER = ("tokenizer.tiktoken", "tokenizer.json")
METRICS = ("loss", "val_loss", "learning_rate", "tokens_per_s")
EXPERIMENT = "nanotriton"
MAX_METRICS = 1000  # of one request, MLflow's own limit


@dataclass(frozen=True, slots=True)
class State:
    """What a run's folder remembers; the log's records up to ``sent_step`` are sent."""

    place: str
    name: str
    data_dir: str
    run_id: str
    sent_step: int = -1


def read_state(run_dir: Path) -> State | None:
    """What an earlier recording left in the folder; raises RegistryError when it is damaged."""
    path = run_dir / STATE
    if not path.is_file():
        return None
    try:
        return State(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError) as error:
        raise RegistryError(
            f"{path} cannot be read ({error}): remove it, and the run is logged as a new one"
        ) from error


class Recording:
    """One run's way into the registry; raises RegistryError when it cannot be reached.

    With ``resume`` it goes on in the MLflow run that the folder remembers, if that is still there.
    """

    def __init__(
        self, target: Target, run_dir: Path, settings: Mapping[str, Any], resume: bool
    ) -> None:
        self.target = target
        self.run_dir = run_dir
        self.is_lost = False  # since a failure of this run's, so that the next ones cost no time
        self.reference: str | None = None  # of the version, once it is there
        self.client = connect(target)
        with explained(target.place):
            self.state = (self._continued() if resume else None) or self._new_run()
            self._send_settings(settings)
            self._remember(self.state)

    def follow(self) -> None:
        """Send what is new of the metrics; a failure is told once, and tried again at the end."""
        if self.is_lost:
            return
        try:
            self._send_metrics()
        except TrainingError as error:
            self.is_lost = True
            _say(f"{error}; training goes on and tries again at its end")

    def __enter__(self) -> "Recording":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Send all of a run that ended well, mark another as failed; never raises."""
        try:
            if kind is None:
                self.reference = self.send_all()
            elif not self.is_lost:
                with explained(self.target.place):
                    self.client.set_terminated(self.state.run_id, "FAILED")
        except TrainingError as error:
            _say(f"{error}; what was trained is in {self.run_dir}, log it later: {self._command()}")

    def _command(self) -> str:
        target = self.target
        return (
            f"python -m training register {self.run_dir} --data {target.data_dir} "
            f"--registry {target.place} --name {target.name}"
        )

    def send_all(self) -> str:
        """Send metrics, files and a version, and return its reference for ``export``.

        What the registry has already is not there twice. Raises RegistryError, also when the run
        has no checkpoint yet.
        """
        files = [self.run_dir / CHECKPOINT, *(self.target.data_dir / name for name in TOKENIZER)]
        if missing := [str(file) for file in files if not file.is_file()]:
            raise RegistryError(
                f"{', '.join(missing)} is missing: train up to a validation, and give the folder "
                "of the tokenizer with --data"
            )
        self._send_metrics()
        with explained(self.target.place):
            for name in (LOG, CURVE):
                if (self.run_dir / name).is_file():
                    self.client.log_artifact(self.state.run_id, str(self.run_dir / name))
            version = self._register(files)
            self.client.set_terminated(self.state.run_id, "FINISHED")
        return f"mlflow:models/{self.target.name}/{version}"

    def _continued(self) -> State | None:
        state = read_state(self.run_dir)
        if state is None or state.place != self.target.place:
            return None
        try:
            stage = self.client.get_run(state.run_id).info.lifecycle_stage
        except Exception as error:
            if error_code(error) != "RESOURCE_DOES_NOT_EXIST":
                raise
            stage = "deleted"
        if stage == "deleted":
            _say(f"run {state.run_id} is gone from {state.place}, a new one is made")
            return None
        self.client.update_run(state.run_id, status="RUNNING")
        return replace(state, name=self.target.name, data_dir=str(self.target.data_dir.resolve()))

    def _new_run(self) -> State:
        found = self.client.get_experiment_by_name(EXPERIMENT)
        if found:
            experiment = found.experiment_id
        else:
            experiment = self.client.create_experiment(EXPERIMENT, self.target.artifacts)
        run = self.client.create_run(experiment, run_name=self.run_dir.resolve().name)
        data_dir = str(self.target.data_dir.resolve())
        return State(self.target.place, self.target.name, data_dir, run.info.run_id)

    def _send_settings(self, settings: Mapping[str, Any]) -> None:
        """As parameters, which MLflow never changes: what a resumed run has anew is a tag."""
        from mlflow.entities import Param, RunTag  # noqa: PLC0415

        known = self.client.get_run(self.state.run_id).data.params
        texts = {name: str(value) for name, value in settings.items()}
        params = [Param(name, text) for name, text in texts.items() if name not in known]
        tags = [
            RunTag(f"resumed.{name}", text)
            for name, text in texts.items()
            if known.get(name, text) != text
        ]
        self.client.log_batch(self.state.run_id, params=params, tags=tags)

    def _send_metrics(self) -> None:
        from mlflow.entities import Metric  # noqa: PLC0415

        with explained(self.target.place):
            records = RunLog(self.run_dir / LOG).records()
            new = [record for record in records if record["step"] > self.state.sent_step]
            started_ms = self.client.get_run(self.state.run_id).info.start_time
            # The time follows from the record: what is sent a second time, MLflow drops.
            metrics = [
                Metric(name, record[name], started_ms + round(record["elapsed_s"] * 1000), step)
                for record in new
                for name, step in ((name, record["step"]) for name in METRICS)
                if name in record
            ]
            for first in range(0, len(metrics), MAX_METRICS):
                chunk = metrics[first : first + MAX_METRICS]
                self.client.log_batch(self.state.run_id, metrics=chunk)
            if new:
                self._remember(replace(self.state, sent_step=new[-1]["step"]))

    def _register(self, files: list[Path]) -> int:
        """A version of the checkpoint, whose folder no later one of the same run writes to."""
        name, run_id = self.target.name, self.state.run_id
        sha256 = file_sha256(files[0])
        folder = f"checkpoint-{sha256[:12]}"
        source = f"runs:/{run_id}/{folder}"
        try:
            self.client.create_registered_model(name)
        except Exception as error:
            if error_code(error) != "RESOURCE_ALREADY_EXISTS":
                raise
        for version in self.client.search_model_versions(f"run_id = '{run_id}'"):
            if (version.name, version.source) == (name, source):
                return int(version.version)
        for file in files:
            self.client.log_artifact(run_id, str(file), folder)
        made = self.client.create_model_version(name, source, run_id, tags={"sha256": sha256})
        return int(made.version)

    def _remember(self, state: State) -> None:
        self.state = state
        write_json(self.run_dir / STATE, asdict(state))


def _say(line: str) -> None:
    print(f"registry: {line}", file=sys.stderr, flush=True)
