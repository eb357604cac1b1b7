"""The stage `plan` of the command line: a checkpoint or a working folder in, a plan out."""

import argparse
import time

from export import plan as plans
from export.calibration import read_calibration
from export.checkpoint import choose_infill, load_checkpoint
from export.gate import read_gate
from export.output import log, print_values
from nanotriton.contract import MANIFEST_FILE
from nanotriton.errors import ArtifactError
from nanotriton.manifest import Manifest


def plan_stage(options: argparse.Namespace) -> None:
    """Write and prove the graph, unless CHECKPOINT is a folder that has it; build its plan."""
    given = options.checkpoint
    work = options.out or given
    if not (given / MANIFEST_FILE).is_file():
        if options.out is None:
            raise ArtifactError(
                "--out is missing: name the folder that the plan is to be written to"
            )
        checkpoint = load_checkpoint(given, options.tokenizer)
        checkpoint = choose_infill(checkpoint, options.infill)
        calibration = None
        if options.precision == "int8-static":
            calibration = read_calibration(options, log)
        graph = plans.GraphOptions(
            options.precision,
            options.kv,
            calibration,
            read_gate(options, log),
        )
        plans.write_graph(checkpoint, work, graph, options.command_line)
    elif options.out is not None:
        raise ArtifactError(f"{given} is already a working folder: leave --out {work} out")
    if options.builder != "none":
        started = time.monotonic()
        sizes = (options.max_batch, options.chunk)
        target = plans.PlanOptions(*sizes, options.builder, options.sm, options.workspace)
        plans.add_plan(work, target, log)
        log(f"plan: built in {time.monotonic() - started:.1f} s")
    print_values(dict(Manifest.load(work).parity), as_json=False)
    print(work)
