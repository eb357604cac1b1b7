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

from export.artifact import QUANTIZED, check_files, quantize_artifact, write_artifact
from export.checkpoint import Checkpoint, choose_infill, load_checkpoint
from export.comparison import TOLERANCES
from export.gate import Gate
from export.parity import default_text
from export.registry import DEFAULT_STORE, FORM, fetched, is_reference
from export.repository import publish
from nanotriton.contract import Manifest
from nanotriton.errors import ArtifactError, NanotritonError

PRECISION_HELP = "".join(f"{name}: {what}; " for name, what in QUANTIZED.items())

TOLERANCE_HELP = {
    "max_relative_delta": "largest difference of a logit, as a share of the largest logit",
    "max_kl": "largest mean KL divergence, in nats a token",
    "min_top1": "smallest share of positions whose best token is the checkpoint's",
    "min_greedy": "smallest share of generated tokens that the checkpoint would pick",
}

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
    _add_checkpoint(checkpoint)
    checkpoint.add_argument("--json", action="store_true", help="print one JSON object")
    checkpoint.set_defaults(stage=describe_stage)

    graph = stages.add_parser("graph", help="write the float32 ONNX model of a checkpoint")
    _add_checkpoint(graph)
    _add_infill(graph)
    graph.add_argument(
        "--out", type=Path, required=True, metavar="WORK", help="working folder to write"
    )
    graph.set_defaults(stage=graph_stage)

    quantized = stages.add_parser("quantized", help="lower the precision of the model in WORK")
    _add_work(quantized)
    quantized.add_argument(
        "--precision",
        choices=tuple(QUANTIZED),
        default="int8",
        help=PRECISION_HELP + "default: int8",
    )
    quantized.set_defaults(stage=quantized_stage)

    parity = stages.add_parser("parity", help="compare the model in WORK with its checkpoint")
    _add_work(parity)
    parity.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="what WORK was made of")
    _add_registry(parity)
    parity.add_argument("--json", action="store_true", help="print one JSON object")
    _add_parity(parity)
    parity.set_defaults(stage=parity_stage)

    repository = stages.add_parser("repository", help="publish WORK as a version")
    _add_work(repository)
    _add_repository(repository)
    repository.set_defaults(stage=repository_stage)

    everything = stages.add_parser("all", help="all stages in order")
    _add_checkpoint(everything)
    _add_infill(everything)
    everything.add_argument(
        "--precision",
        choices=("fp32", *QUANTIZED),
        default="fp32",
        help=PRECISION_HELP + "default: fp32",
    )
    _add_repository(everything)
    _add_parity(everything)
    everything.set_defaults(stage=all_stages)
    return parser


def _add_checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint",
        type=Path,
        metavar="CHECKPOINT",
        help=f"nanoGPT ckpt.pt, GPT-2 folder or {FORM} (a number, latest or an alias)",
    )
    _add_registry(parser)
    parser.add_argument(
        "--tokenizer",
        metavar="FILE_OR_NAME",
        help="ranks file, meta.pkl, vocab.json, tokenizer.json, a folder with one of them, or an "
        "encoding such as gpt2 (default: the one beside the checkpoint)",
    )


def _add_infill(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--infill",
        choices=("auto", "yes", "no"),
        default="auto",
        help="whether the model fills in the middle (default, auto: if its tokenizer has the "
        "<|fim_...|> tokens and it is not known to be trained with fim_rate 0)",
    )


def _add_registry(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--registry",
        metavar="URI",
        help="MLflow server's or database's URI, or folder, of a CHECKPOINT mlflow:... (default: "
        f"MLFLOW_TRACKING_URI, else the folder {DEFAULT_STORE!r})",
    )


def _add_work(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("work", type=Path, metavar="WORK", help="folder written by `graph`")


def _add_repository(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--repository",
        type=Path,
        required=True,
        metavar="DIR",
        help="Triton model repository; made when it does not exist",
    )
    parser.add_argument(
        "--version",
        type=_positive,
        metavar="N",
        help="version to write or replace (default: one more than the newest)",
    )


def _add_parity(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--text", type=Path, metavar="FILE", help="text to compare on (default: Python sources)"
    )
    parser.add_argument(
        "--tokens", type=_positive, default=4096, metavar="N", help="tokens of it (default: 4096)"
    )
    parser.add_argument(
        "--threads", type=_positive, metavar="N", help="threads to run on (default: all cores)"
    )
    for name, what in TOLERANCE_HELP.items():
        defaults = ", ".join(
            f"{precision} {getattr(tolerance, name):g}"
            for precision, tolerance in TOLERANCES.items()
        )
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=float,
            metavar="X",
            help=f"{what}, in each graph (default: {defaults})",
        )


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 up")
    return int(text)


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
    _quantize(options.work, options.precision)
    print(options.work)


def parity_stage(options: argparse.Namespace) -> None:
    """Compare, print the report, and remember it in the folder's manifest."""
    Manifest.load(options.work)  # refuses a folder that is none before the checkpoint is read
    # The artifact's own tokenizer decides how far the checkpoint's vocabulary is cut.
    checkpoint = load_checkpoint(options.checkpoint, str(options.work))
    _print_values(_check_parity(checkpoint, options.work, options), options.json)


def repository_stage(options: argparse.Namespace) -> None:
    """Publish the artifact."""
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
        if options.precision != "fp32":
            _quantize(work, options.precision)
        figures = _check_parity(checkpoint, work, options)
        folder = publish(work, options.repository, options.version, options.command_line)
        _print_values(figures, as_json=False)
        print(folder)


def _write_graph(checkpoint: Checkpoint, work: Path, command: str) -> None:
    started = time.monotonic()
    write_artifact(checkpoint, work, command)
    _log(f"graph: written in {time.monotonic() - started:.1f} s")


def _quantize(work: Path, precision: str) -> None:
    started = time.monotonic()
    quantize_artifact(work, precision)
    _log(f"quantized: {QUANTIZED[precision]} in {time.monotonic() - started:.1f} s")


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
    given = {name: getattr(options, name) for name in TOLERANCE_HELP}
    gate = Gate(
        text=options.text.read_text(encoding="utf-8") if options.text else default_text(),
        max_tokens=options.tokens,
        num_threads=options.threads or os.cpu_count() or 1,
        limits={name: value for name, value in given.items() if value is not None},
        progress=_log,
    )
    figures = gate.measure(checkpoint, work)
    dataclasses.replace(manifest, parity=figures).save(work)
    return figures


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
