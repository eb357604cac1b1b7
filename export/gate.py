"""A checkpoint and the artifact made of it in, the parity figures of its manifest out.

Every graph of the artifact is compared by itself (`export.parity`) and held to the tolerance of
its precision; two graphs are also compared taking turns. Raises ParityError for the first figure
that is outside and was not accepted by its name. Knows nothing of the command line.
"""

import argparse
import dataclasses
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from export.alternation import Runners, measure_alternation
from export.calibration import check_unseen
from export.checkpoint import Checkpoint
from export.comparison import TOLERANCES, Tolerance, check_alternation
from export.options import TOLERANCE_HELP
from export.parity import Progress, default_text, measure_parity, read_text
from nanotriton.contract import GRAPH_FILE
from nanotriton.manifest import Manifest
from nanotriton.runners.base import Runner
from nanotriton.runners.graphs import BY_ROWS, DETERMINISTIC, GraphUse
from nanotriton.runners.ort import OrtRunner
from nanotriton.runners.trt import TrtRunner

NUM_SLOTS = 4


@dataclass(frozen=True, slots=True)
class Gate:
    """How to compare: about `max_tokens` tokens of `text`, with `limits` that replace some of a
    tolerance's own, going on in spite of the metrics in `accept`.

    Raises ArtifactError for a limit that means nothing, before anything is measured.
    """

    text: str
    max_tokens: int
    num_threads: int
    limits: Mapping[str, float]
    progress: Progress
    accept: Collection[str] = ()

    def __post_init__(self) -> None:
        self._tolerance("fp32")

    def measure(self, checkpoint: Checkpoint, work: Path) -> dict[str, float]:
        """Figures of model.onnx under their names, those of a decode graph as PRECISION_NAME.

        accepted_METRIC among them is the limit that a figure broke and was let through. Raises
        ParityError also for the text that the version was calibrated on.
        """
        manifest = Manifest.load(work)
        check_unseen(manifest.calibration_sha256, self.text)
        decode = manifest.decode_graph
        precision = manifest.precision if decode is None else "int8"
        if precision == "fp32" and manifest.kv_dtype == "int8":
            precision = "int8"  # rounded to 8 bits too, only elsewhere
        figures = self._measure_graph(checkpoint, work, GRAPH_FILE, precision)
        if manifest.calibration_sha256:
            figures["calibration_tokens"] = float(manifest.calibration_tokens)
        if decode is None:
            return figures
        found = self._measure_graph(checkpoint, work, decode.file, decode.precision)
        figures |= {f"{decode.precision}_{name}": value for name, value in found.items()}
        runners = Runners(
            self._open(work, BY_ROWS, 2 * decode.max_rows),
            self._open(work, DETERMINISTIC, 2 * decode.max_rows),
            decode.max_rows,
        )
        alternation = measure_alternation(
            checkpoint, runners, self.text, self.max_tokens, self.progress
        )
        min_greedy = self._tolerance(decode.precision).min_greedy
        return figures | alternation | check_alternation(alternation, min_greedy, self.accept)

    def _measure_graph(
        self, checkpoint: Checkpoint, work: Path, graph_file: str, precision: str
    ) -> dict[str, float]:
        self.progress(f"parity: {graph_file}, {precision}")
        runner = self._open(work, GraphUse(only=graph_file), NUM_SLOTS)
        return self.hold(checkpoint, runner, precision)

    def hold(self, checkpoint: Checkpoint, runner: Runner, precision: str) -> dict[str, float]:
        """Figures of one runner, held to the tolerance of a precision."""
        report = measure_parity(checkpoint, runner, self.text, self.max_tokens, self.progress)
        return report.to_dict() | report.check(self._tolerance(precision), self.accept)

    def _tolerance(self, precision: str) -> Tolerance:
        return dataclasses.replace(TOLERANCES[precision], **self.limits)

    def _open(self, work: Path, use: GraphUse, num_slots: int) -> Runner:
        if Manifest.load(work).runner == "trt":
            runner = TrtRunner(work, num_slots)
            self.progress(f"parity: of its plan, on {runner.gpu}")
            return runner
        return OrtRunner(work, num_slots, self.num_threads, use)


def read_gate(options: argparse.Namespace, progress: Progress) -> Gate:
    """The gate that a command line asks for."""
    given = {name: getattr(options, name) for name in TOLERANCE_HELP}
    return Gate(
        text=read_text(options.text, "--text") if options.text else default_text(),
        max_tokens=options.tokens,
        num_threads=options.threads or os.cpu_count() or 1,
        limits={name: value for name, value in given.items() if value is not None},
        progress=progress,
        accept=tuple(options.accept),
    )
