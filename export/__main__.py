"""The command line of export: one subcommand a stage, and `all`.

Results go to stdout, progress to stderr; whatever is refused is one line and exit status 1.
"""

import argparse
import dataclasses
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from export import calibration
from export import plan as plans
from export.artifact import QUANTIZED, check_files, quantize_artifact, write_artifact
from export.calibration import Calibration
from export.checkpoint import Checkpoint, choose_infill, load_checkpoint
from export.gate import Gate
from export.options import (
    TOLERANCE_HELP,
    add_calibration,
    add_checkpoint,
    add_infill,
    add_parity,
    add_plan,
    add_precision,
    add_registry,
    add_repository,
    add_work,
)
from export.parity import default_text
from export.registry import DEFAULT_STORE, fetched, is_reference
from export.repository import publish
from export.scores import is_scoring, publish_scores
from nanotriton.contract import MANIFEST_FILE, Manifest
from nanotriton.errors import ArtifactError, NanotritonError

EXAMPLES = """\
examples:
  python -m export all out/ckpt.pt --tokenizer gpt2 --repository model_repository
  python -m export all demo --repository model_repository --precision auto
  python -m export all mlflow:models/nanotriton/latest --repository model_repository

  python -m export checkpoint demo
  python -m export graph demo --out work
  python -m export quantized work --precision int8
  python -m export parity work demo
  python -m export repository work --repository model_repository

  python -m export plan demo --out plan --precision fp16
  python -m export plan demo --out check --builder rtx --sm 80
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one stage, or all; returns the exit status."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    options = build_parser().parse_args(arguments)
    options.command_line = _describe_command(arguments)
    try:
        with ExitStack() as stack:
            if is_reference(getattr(options, "checkpoint", Path())):
                place = options.registry or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_STORE
                options.checkpoint = stack.enter_context(fetched(str(options.checkpoint), place))
            options.stage(options)
    except (NanotritonError, OSError) as error:
        _log(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        _log("error: interrupted")
        return 130
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The parser with every subcommand and option."""
    parser = argparse.ArgumentParser(
        prog="python -m export",
        description="Turn a GPT checkpoint into a version of the model repository.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    stages = parser.add_subparsers(metavar="STAGE", required=True)

    checkpoint = stages.add_parser("checkpoint", help="check a checkpoint and describe it")
    add_checkpoint(checkpoint)
    checkpoint.add_argument("--json", action="store_true", help="print one JSON object")
    checkpoint.set_defaults(stage=describe_stage)

    graph = stages.add_parser("graph", help="write the float32 ONNX model of a checkpoint")
    add_checkpoint(graph)
    add_infill(graph)
    graph.add_argument(
        "--out", type=Path, required=True, metavar="WORK", help="working folder to write"
    )
    graph.set_defaults(stage=graph_stage)

    quantized = stages.add_parser("quantized", help="lower the precision of the model in WORK")
    add_work(quantized)
    add_precision(quantized, *QUANTIZED, "fp32")
    quantized.set_defaults(stage=quantized_stage)

    parity = stages.add_parser("parity", help="compare the model in WORK with its checkpoint")
    add_work(parity)
    parity.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="what WORK was made of")
    add_registry(parity)
    parity.add_argument("--json", action="store_true", help="print one JSON object")
    add_parity(parity)
    parity.set_defaults(stage=parity_stage)

    plan = stages.add_parser("plan", help="build a TensorRT plan of a checkpoint, or of WORK")
    add_checkpoint(plan)
    add_infill(plan)
    add_plan(plan)
    add_calibration(plan, "to choose the scales of int8-static by")
    add_parity(plan)
    plan.set_defaults(stage=plan_stage)

    repository = stages.add_parser("repository", help="publish WORK as a version")
    add_work(repository)
    add_repository(repository)
    repository.set_defaults(stage=repository_stage)

    everything = stages.add_parser("all", help="all stages in order")
    add_checkpoint(everything)
    add_infill(everything)
    add_precision(everything, "fp32", *QUANTIZED)
    add_repository(everything)
    add_parity(everything)
    everything.set_defaults(stage=all_stages)
    return parser


def describe_stage(options: argparse.Namespace) -> None:
    """Print what a checkpoint is."""
    checkpoint = load_checkpoint(options.checkpoint, options.tokenizer)
    values = dataclasses.asdict(checkpoint.config) | {
        "tied": checkpoint.tied,
        "num_parameters": checkpoint.num_parameters,
        "end_of_text": checkpoint.vocabulary.tokenizer.end_of_text,
        "infill": checkpoint.infill,
        "sha256": checkpoint.sha256,
        "tokenizer_sha256": checkpoint.vocabulary.sha256,
    }
    _print_values(values, options.json)


def graph_stage(options: argparse.Namespace) -> None:
    """Write the float32 artifact."""
    checkpoint = load_checkpoint(options.checkpoint, options.tokenizer)
    checkpoint = choose_infill(checkpoint, options.infill)
    _write_graph(checkpoint, options.out, options.command_line)
    print(options.out)


def quantized_stage(options: argparse.Namespace) -> None:
    """Quantize the artifact in its folder."""
    _quantize(options.work, options)
    print(options.work)


def parity_stage(options: argparse.Namespace) -> None:
    """Compare, print the report, and remember it in the folder's manifest."""
    Manifest.load(options.work)  # refuses a folder that is none before the checkpoint is read
    # The artifact's own tokenizer decides how far the checkpoint's vocabulary is cut.
    checkpoint = load_checkpoint(options.checkpoint, str(options.work))
    _print_values(_check_parity(checkpoint, options.work, options), options.json)


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
        graph = plans.GraphOptions(
            options.precision,
            options.kv,
            _calibration(options) if options.precision == "int8-static" else None,
            _gate(options),
        )
        plans.write_graph(checkpoint, work, graph, options.command_line)
    elif options.out is not None:
        raise ArtifactError(f"{given} is already a working folder: leave --out {work} out")
    if options.builder != "none":
        started = time.monotonic()
        sizes = (options.max_batch, options.chunk)
        target = plans.PlanOptions(*sizes, options.builder, options.sm, options.workspace)
        plans.add_plan(work, target, _log)
        _log(f"plan: built in {time.monotonic() - started:.1f} s")
    _print_values(dict(Manifest.load(work).parity), as_json=False)
    print(work)


def repository_stage(options: argparse.Namespace) -> None:
    """Publish the artifact: as a version of the engine, or as the ensemble that scores."""
    if is_scoring(Manifest.load(options.work)):
        print(publish_scores(options.work, options.repository, options.command_line))
        return
    print(publish(options.work, options.repository, options.version, options.command_line))


def all_stages(options: argparse.Namespace) -> None:
    """Every stage in order, in a temporary working folder."""
    with tempfile.TemporaryDirectory(prefix="nanotriton-export-") as temporary:
        work = Path(temporary)
        checkpoint = load_checkpoint(options.checkpoint, options.tokenizer)
        checkpoint = choose_infill(checkpoint, options.infill)
        config = checkpoint.config
        _log(
            f"checkpoint: {checkpoint.num_parameters:,} parameters, {config.num_layers} layers, "
            f"{config.vocab_size} tokens, context {config.context}"
        )
        _write_graph(checkpoint, work, options.command_line)
        if options.precision != "fp32" or options.kv != "float32":
            _quantize(work, options)
        figures = _check_parity(checkpoint, work, options)
        folder = publish(work, options.repository, options.version, options.command_line)
        _print_values(figures, as_json=False)
        print(folder)


def _write_graph(checkpoint: Checkpoint, work: Path, command: str) -> None:
    started = time.monotonic()
    write_artifact(checkpoint, work, command)
    _log(f"graph: written in {time.monotonic() - started:.1f} s")


def _quantize(work: Path, options: argparse.Namespace) -> None:
    started = time.monotonic()
    quantize_artifact(work, options.precision, _calibration(options), options.kv)
    what = [QUANTIZED[options.precision]] if options.precision in QUANTIZED else []
    what += ["keys and values of 8 bits"] if options.kv == "int8" else []
    _log(f"quantized: {', '.join(what) or 'nothing'} in {time.monotonic() - started:.1f} s")


def _calibration(options: argparse.Namespace) -> Calibration | None:
    if not options.calibration_tokens:
        return None
    file = options.calibration
    try:
        text = file.read_text(encoding="utf-8") if file else calibration.default_text()
    except UnicodeDecodeError:
        raise ArtifactError(f"{file} is no UTF-8 text: give another --calibration") from None
    return Calibration(text, options.calibration_tokens, _log)


def _check_parity(
    checkpoint: Checkpoint, work: Path, options: argparse.Namespace
) -> dict[str, float]:
    manifest = Manifest.load(work)
    check_files(work, manifest)
    if manifest.checkpoint_sha256 != checkpoint.sha256:
        raise ArtifactError(
            f"{work} was made from another checkpoint than {options.checkpoint}: give that one, "
            "or run the graph stage again"
        )
    figures = _gate(options).measure(checkpoint, work)
    dataclasses.replace(manifest, parity=figures).save(work)
    return figures


def _gate(options: argparse.Namespace) -> Gate:
    given = {name: getattr(options, name) for name in TOLERANCE_HELP}
    return Gate(
        text=options.text.read_text(encoding="utf-8") if options.text else default_text(),
        max_tokens=options.tokens,
        num_threads=options.threads or os.cpu_count() or 1,
        limits={name: value for name, value in given.items() if value is not None},
        progress=_log,
    )


def _print_values(values: dict[str, object] | dict[str, float], as_json: bool) -> None:
    if as_json:
        print(json.dumps(values))
        return
    for name, value in values.items():
        print(f"{name:<22}", f"{value:.6g}" if isinstance(value, float) else value)


def _describe_command(arguments: Sequence[str]) -> str:
    """The command line for the manifest; of absolute paths only the last part."""
    words = [word if not os.path.isabs(word) else Path(word).name for word in arguments]
    return " ".join(["python -m export", *words])


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
