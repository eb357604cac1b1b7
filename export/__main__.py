"""The command line of export: one subcommand a stage, and `all`.

Results go to stdout, progress to stderr; whatever is refused is one line and exit status 1.
"""

import argparse
import dataclasses
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from export.archive import write_archive
from export.artifact import QUANTIZED, check_files, quantize_artifact, write_artifact
from export.calibration import read_calibration
from export.checkpoint import Checkpoint, choose_infill, load_checkpoint
from export.gate import Gate, read_gate
from export.measuring import compare_stage, verify_stage
from export.options import (
    add_archive,
    add_calibration,
    add_checkpoint,
    add_contenders,
    add_infill,
    add_parity,
    add_plan,
    add_precision,
    add_registry,
    add_repository,
    add_verification,
    add_work,
)
from export.output import describe_error, log, print_values
from export.plan_stage import plan_stage
from export.registry import DEFAULT_STORE, fetched, is_reference
from export.repository import check_writable, publish
from export.scores import is_scoring, publish_scores
from nanotriton.errors import ArtifactError, NanotritonError
from nanotriton.manifest import Manifest, sha256_file

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

  python -m export archive model_repository --out model.tar.gz
  python -m export compare demo model_repository --out report
  python -m export verify --url localhost:8001 demo

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
            _fetch_models(options, stack)
            options.stage(options)
    except (NanotritonError, OSError) as error:
        log(f"error: {describe_error(error)}")
        return 1
    except KeyboardInterrupt:
        log("error: interrupted")
        return 130
    return 0


def _fetch_models(options: argparse.Namespace, stack: ExitStack) -> None:
    """Put files in the place of references to a registry."""

    def fetch(path: Path) -> Path:
        if not is_reference(path):
            return path
        place = options.registry or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_STORE
        return stack.enter_context(fetched(str(path), place))

    if hasattr(options, "checkpoint"):
        options.checkpoint = fetch(options.checkpoint)
    if hasattr(options, "contenders"):
        options.contenders = [fetch(path) for path in options.contenders]


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

    archive = stages.add_parser("archive", help="pack a repository's newest version into one file")
    add_archive(archive)
    archive.set_defaults(stage=archive_stage)

    compare = stages.add_parser("compare", help="measure models against the first of them")
    add_contenders(compare)
    compare.set_defaults(stage=compare_stage)

    verify = stages.add_parser("verify", help="compare a running server with what it should serve")
    add_verification(verify)
    verify.set_defaults(stage=verify_stage)
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
    print_values(values, options.json)


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
    gate = read_gate(options, log)
    # The artifact's own tokenizer decides how far the checkpoint's vocabulary is cut.
    checkpoint = load_checkpoint(options.checkpoint, str(options.work))
    print_values(_check_parity(checkpoint, options.work, options, gate), options.json)


def repository_stage(options: argparse.Namespace) -> None:
    """Publish the artifact: as a version of the engine, or as the ensemble that scores."""
    if is_scoring(Manifest.load(options.work)):
        print(publish_scores(options.work, options.repository, options.command_line))
        return
    print(publish(options.work, options.repository, options.version, options.command_line))


def archive_stage(options: argparse.Namespace) -> None:
    """Pack a repository as SageMaker takes it."""
    version = write_archive(options.repository, options.out)
    print_values(
        {
            "file": options.out,
            "bytes": options.out.stat().st_size,
            "sha256": sha256_file(options.out),
            "version": version.name,
        },
        as_json=False,
    )


def all_stages(options: argparse.Namespace) -> None:
    """Every stage in order, in a temporary working folder."""
    gate = read_gate(options, log)  # what these two refuse costs no export
    check_writable(options.repository)
    with tempfile.TemporaryDirectory(prefix="nanotriton-export-") as temporary:
        work = Path(temporary)
        checkpoint = load_checkpoint(options.checkpoint, options.tokenizer)
        checkpoint = choose_infill(checkpoint, options.infill)
        config = checkpoint.config
        log(
            f"checkpoint: {checkpoint.num_parameters:,} parameters, {config.num_layers} layers, "
            f"{config.vocab_size} tokens, context {config.context}"
        )
        _write_graph(checkpoint, work, options.command_line)
        if options.precision != "fp32" or options.kv != "float32":
            _quantize(work, options)
        figures = _check_parity(checkpoint, work, options, gate)
        folder = publish(work, options.repository, options.version, options.command_line)
        print_values(figures, as_json=False)
        print(folder)


def _write_graph(checkpoint: Checkpoint, work: Path, command: str) -> None:
    started = time.monotonic()
    write_artifact(checkpoint, work, command)
    log(f"graph: written in {time.monotonic() - started:.1f} s")


def _quantize(work: Path, options: argparse.Namespace) -> None:
    started = time.monotonic()
    calibration = None
    if options.rounding != "nearest" or options.kv == "int8":
        calibration = read_calibration(options, log)
    quantize_artifact(
        work,
        options.precision,
        calibration,
        options.rounding,
        options.kv,
        block_size=options.block_size,
    )
    what = [QUANTIZED[options.precision]] if options.precision in QUANTIZED else []
    what += ["keys and values of 8 bits"] if options.kv == "int8" else []
    log(f"quantized: {', '.join(what) or 'nothing'} in {time.monotonic() - started:.1f} s")


def _check_parity(
    checkpoint: Checkpoint, work: Path, options: argparse.Namespace, gate: Gate
) -> dict[str, float]:
    manifest = Manifest.load(work)
    check_files(work, manifest)
    if manifest.checkpoint_sha256 != checkpoint.sha256:
        raise ArtifactError(
            f"{work} was made from another checkpoint than {options.checkpoint}: give that one, "
            "or run the graph stage again"
        )
    figures = gate.measure(checkpoint, work)
    dataclasses.replace(manifest, parity=figures).save(work)
    return figures


def _describe_command(arguments: Sequence[str]) -> str:
    """The command line for the manifest; of absolute paths only the last part."""
    words = [word if not os.path.isabs(word) else Path(word).name for word in arguments]
    return " ".join(["python -m export", *words])


if __name__ == "__main__":
    sys.exit(main())
