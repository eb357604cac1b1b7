"""``train.bin``, ``val.bin`` in; ``ckpt.pt`` (best), ``last.pt``, ``log.jsonl``, ``curve.png`` out.

One process or several under torchrun, on CPU or GPU: a step's global batch is the same, and so is
its loss. All that a step does follows from (settings, step) alone, so a killed run resumes exactly,
unless ``max_minutes`` steers it. Knows nothing of text: it sees token ids and how many there are.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from training.checkpoint import (
    Progress,
    load_checkpoint,
    model_from,
    progress_of,
    save_checkpoint,
)
from training.config import TrainConfig, changed_settings
from training.curve import has_matplotlib, write_curve
from training.errors import CheckpointError, ConfigError, TrainingError
from training.learner import Learner, Step
from training.processes import Place, only_place
from training.runlog import RunLog
from training.schedule import learning_rate, used_share
from training.speed import Speed, flops_per_token, measure_peak
from training.starting import adopt_pretrained

Clock = Callable[[], float]  # seconds, monotonic
BEST, LAST, LOG, CURVE = "ckpt.pt", "last.pt", "log.jsonl", "curve.png"
CURVE_EVERY_S = 60.0  # it takes up to a second to draw


@dataclass(slots=True)
class Interval:
    """Steps since the last line on one, and the time they took without validations."""

    num_steps: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        self.num_steps += 1
        self.seconds += seconds


class Trainer:
    """One run: the learner, how far it got, and the files that tell of it.

    Raises CorpusError when the data is missing or shorter than one block, ConfigError when the
    settings do not fit the number of processes or the model of ``init_from``.
    """

    def __init__(
        self,
        config: TrainConfig,
        data_dir: Path,
        out_dir: Path,
        clock: Clock = time.monotonic,
        place: Place | None = None,
    ) -> None:
        self.config = adopt_pretrained(config)
        self.place = place or only_place()
        if config.accumulation % self.place.size:
            raise ConfigError(
                f"accumulation is {config.accumulation}, {self.place.size} processes share it out: "
                "make it a multiple of their number"
            )
        self.out_dir = out_dir
        self.clock = clock
        self.learner = Learner(self.config, data_dir, self.place)
        self.log = RunLog(out_dir / LOG)
        self.progress = Progress()
        self.changed: dict[str, tuple[Any, Any]] = {}  # settings, between this run and the resumed
        self.drawn_s = 0.0
        self.interval = Interval()

    def resume(self) -> None:
        """Take weights, optimizer and progress from ``last.pt``; raises CheckpointError."""
        state = load_checkpoint(self.out_dir / LAST)
        model = model_from(state)
        if model.config != self.learner.model.config:
            raise CheckpointError(
                f"{self.out_dir / LAST} holds {model.config}, the settings ask for "
                f"{self.learner.model.config}: use the settings it was trained with or another "
                "--out"
            )
        self.learner.model.load_state_dict(model.state_dict())
        try:
            self.learner.optimizer.load_state_dict(state["optimizer"])
        except (KeyError, ValueError) as error:
            raise CheckpointError(
                f"the optimizer's state in {self.out_dir / LAST} does not fit optimizer="
                f"{self.config.optimizer} ({error}): use the settings it was trained with"
            ) from error
        self.progress = progress_of(state)
        self.changed = changed_settings(state.get("config", {}), self.config)

    def refuse_overwriting(self) -> None:
        """Raises CheckpointError when the folder holds a run already."""
        if (self.out_dir / LAST).exists():
            raise CheckpointError(
                f"{self.out_dir} holds a run already: go on with --resume or give another --out"
            )

    def run(self, on_validation: Callable[[], None] = lambda: None) -> Progress:
        """Step until the run's share is used up; evaluate and save on the way and at the end.

        ``on_validation`` is called when a validation's files are written, off the run's clock.
        Raises TrainingError when the loss is no number any more.
        """
        speed = self._start()
        while not self._is_over():
            rate = learning_rate(self.config, self._used_share())
            started_s = self.clock()
            step = self.learner.take_step(self.progress.step, rate)
            self.interval.add(self._tick(started_s))
            self.progress = replace(self.progress, step=self.progress.step + 1)
            self._check(step)
            if self.progress.step % self.config.log_every == 0:
                self._log_step(step, rate, speed)
            if self.progress.step % self.config.eval_every == 0 or self._is_over():
                self._evaluate()
                on_validation()
        return self.progress

    def _start(self) -> Speed:
        """Log what the run is, drop what a killed one logged after its checkpoint."""
        self.place.wait()  # so that all processes measure their peak at the same time
        peak = measure_peak(self.place.device, self.learner.dtype)
        speed = Speed(flops_per_token(self.learner.model), sum(self.place.sum([peak])))
        if self.place.is_first:
            self.out_dir.mkdir(parents=True, exist_ok=True)
            self.log.rewind(self.progress.step)
        changed = {"changed": self.changed} if self.changed else {}
        self._log(
            num_parameters=self.learner.model.num_parameters,
            num_processes=self.place.size,
            device=self.place.device,
            dtype=str(self.learner.dtype).removeprefix("torch."),
            flops_per_token=speed.flops_per_token,
            peak_flops=round(speed.peak_flops),
            **changed,
        )
        return speed

    def _used_share(self) -> float:
        return used_share(self.config, self.progress.step, self.progress.elapsed_s)

    def _is_over(self) -> bool:
        impatient = 0 < self.config.patience <= self.progress.num_stale
        return impatient or self._used_share() >= 1.0

    def _tick(self, started_s: float) -> float:
        """Add the time since ``started_s`` to the run's and return it; the first process's counts.

        Otherwise processes would disagree on the learning rate and on the end.
        """
        seconds = self.clock() - started_s
        (seconds,) = self.place.sum([seconds if self.place.is_first else 0.0])
        self.progress = replace(self.progress, elapsed_s=self.progress.elapsed_s + seconds)
        return seconds

    def _check(self, step: Step) -> None:
        if not math.isfinite(step.loss):
            raise TrainingError(
                f"the loss is {step.loss} at step {self.progress.step}, it must be finite: lower "
                f"learning_rate {self.config.learning_rate}; {LAST} is from before"
            )

    def _log_step(self, step: Step, rate: float, speed: Speed) -> None:
        num_tokens = self.interval.num_steps * self.config.tokens_per_step
        tokens_per_s = num_tokens / max(self.interval.seconds, 1e-9)
        self.interval = Interval()
        self._log(
            loss=step.loss,
            learning_rate=rate,
            grad_norm=round(step.grad_norm, 4),
            tokens_per_s=round(tokens_per_s),
            peak_share=round(speed.peak_share(tokens_per_s), 4),
        )

    def _evaluate(self) -> None:
        """Measure the held-out loss; save the last weights, and the best before them.

        Killed between the two, the run resumes from the older last.pt and finds the best again.
        """
        started_s = self.clock()
        val_loss = self.learner.measure_val_loss()
        is_best = val_loss < self.progress.best_val_loss
        if is_best:
            self.progress = replace(self.progress, best_val_loss=val_loss, num_stale=0)
        else:
            self.progress = replace(self.progress, num_stale=self.progress.num_stale + 1)
        self._tick(started_s)
        self._log(val_loss=val_loss, best_val_loss=self.progress.best_val_loss)
        if self.place.is_first:
            if is_best:
                self._save(BEST)
            self._save(LAST)
            self._draw()

    def _draw(self) -> None:
        is_due = self.progress.elapsed_s - self.drawn_s >= CURVE_EVERY_S or self._is_over()
        if is_due and has_matplotlib():
            self.drawn_s = self.progress.elapsed_s
            write_curve(self.log.records(), self.out_dir / CURVE)

    def _save(self, name: str) -> None:
        optimizer = self.learner.optimizer.state_dict()
        path = self.out_dir / name
        save_checkpoint(path, self.learner.model, optimizer, self.progress, asdict(self.config))

    def _log(self, **values: object) -> None:
        if self.place.is_first:
            elapsed_s = round(self.progress.elapsed_s, 1)
            self.log.append({"step": self.progress.step, "elapsed_s": elapsed_s} | values)
