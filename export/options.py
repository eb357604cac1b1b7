"""The options that several of export's subcommands share, added to the parser that comes in.

Knows nothing of what the stages do with them.
"""

import argparse
from pathlib import Path

from export.artifact import QUANTIZED, ROUNDINGS
from export.blockwise import BLOCK_SIZE, BLOCK_SIZES
from export.calibration import DEFAULT_TOKENS
from export.comparison import METRICS, TOLERANCES
from export.registry import DEFAULT_STORE, FORM
from nanotriton.contract import ORT_KV_DTYPES

PRECISION_HELP = "".join(f"{name}: {what}; " for name, what in QUANTIZED.items())

TOLERANCE_HELP = {
    "max_relative_delta": "largest difference of a logit, as a share of the largest logit",
    "max_kl": "largest mean KL divergence, in nats a token",
    "min_top1": "smallest share of positions whose best token is the checkpoint's",
    "min_greedy": "smallest share of generated tokens that the checkpoint would pick",
    "max_perplexity_rise": "the budget: largest rise of perplexity, as a share (0.01: 1 percent)",
}

SERVED_LIMITS = ("max_kl", "min_top1", "min_greedy", "max_perplexity_rise")


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """What to export, and where else to look for its tokenizer."""
    parser.add_argument(
        "checkpoint",
        type=Path,
        metavar="CHECKPOINT",
        help=f"nanoGPT ckpt.pt, GPT-2 folder or {FORM} (a number, latest or an alias)",
    )
    add_registry(parser)
    add_tokenizer(parser)


def add_tokenizer(parser: argparse.ArgumentParser) -> None:
    """Where else a checkpoint's tokenizer may lie."""
    parser.add_argument(
        "--tokenizer",
        metavar="FILE_OR_NAME",
        help="ranks file, meta.pkl, vocab.json, tokenizer.json, a folder with one of them, or an "
        "encoding such as gpt2 (default: the one beside the checkpoint)",
    )


def add_infill(parser: argparse.ArgumentParser) -> None:
    """Whether the manifest lets requests have a suffix."""
    parser.add_argument(
        "--infill",
        choices=("auto", "yes", "no"),
        default="auto",
        help="whether the model fills in the middle (default, auto: if its tokenizer has the "
        "<|fim_...|> tokens and it is not known to be trained with fim_rate 0)",
    )


def add_registry(parser: argparse.ArgumentParser) -> None:
    """Where models of a registry lie."""
    parser.add_argument(
        "--registry",
        metavar="URI",
        help="MLflow server's or database's URI, or folder, of a CHECKPOINT mlflow:... (default: "
        f"MLFLOW_TRACKING_URI, else the folder {DEFAULT_STORE!r})",
    )


def add_work(parser: argparse.ArgumentParser) -> None:
    """The folder that stages hand on."""
    parser.add_argument("work", type=Path, metavar="WORK", help="folder written by `graph`")


def add_archive(parser: argparse.ArgumentParser) -> None:
    """What to pack, and into which file."""
    parser.add_argument("repository", type=Path, metavar="DIR", help="model repository")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="such as model.tar.gz"
    )


def add_repository(parser: argparse.ArgumentParser) -> None:
    """Where to publish."""
    parser.add_argument(
        "--repository",
        type=Path,
        required=True,
        metavar="DIR",
        help="Triton model repository; made when it does not exist",
    )
    parser.add_argument(
        "--version",
        type=positive,
        metavar="N",
        help="version to write or replace (default: one more than the newest)",
    )


def add_precision(parser: argparse.ArgumentParser, *choices: str) -> None:
    """--precision, the first choice its default, --kv, and what they are calibrated on."""
    parser.add_argument(
        "--precision",
        choices=choices,
        default=choices[0],
        help=f"{PRECISION_HELP}default: {choices[0]}",
    )
    parser.add_argument(
        "--kv",
        choices=ORT_KV_DTYPES,
        default="float32",
        help="keys and values in the cache; int8 takes a quarter of the memory (default: float32)",
    )
    add_calibration(
        parser, "to round the 4-bit weights of int4 and auto by, and to scale a cache of int8"
    )
    parser.add_argument(
        "--rounding",
        choices=tuple(ROUNDINGS),
        default="gptq",
        help="how the 4-bit weights are rounded; "
        + "".join(f"{name}: {what}; " for name, what in ROUNDINGS.items())
        + "default: gptq",
    )
    parser.add_argument(
        "--block-size",
        type=int,
        choices=BLOCK_SIZES,
        default=BLOCK_SIZE,
        help="4-bit weights that share a scale; smaller ones are closer and slower "
        f"(default: {BLOCK_SIZE})",
    )


def add_calibration(parser: argparse.ArgumentParser, what: str) -> None:
    """Text that a lower precision is fitted to; `what` says which, and for what."""
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE",
        help=f"text like what the model will read, {what}, or train.bin or val.bin of its tokens; "
        "not the one of parity (default: Python sources that parity does not use)",
    )
    parser.add_argument(
        "--calibration-tokens",
        type=positive,
        default=DEFAULT_TOKENS,
        metavar="N",
        help=f"tokens of it, spread evenly (default: {DEFAULT_TOKENS})",
    )
    parser.add_argument(
        "--calibration-samples",
        type=positive,
        metavar="N",
        help="instead: so many windows of 256 tokens at places drawn by --seed",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of --calibration-samples (default: 0)"
    )


def add_plan(parser: argparse.ArgumentParser) -> None:
    """What to build a plan of and for."""
    parser.add_argument("--out", type=Path, metavar="DIR", help="working folder to write")
    parser.add_argument(
        "--precision",
        choices=("fp16", "int8-static", "fp32"),
        default="fp16",
        help="fp16: norms and logits in float32; int8-static: the blocks' linears in 8 bits with "
        "calibrated scales, the head in fp16 (default: fp16)",
    )
    parser.add_argument(
        "--kv",
        choices=("static", "concat", "none"),
        default="static",
        help="static: a cache written in place, for the engine (TensorRT 10.15); concat: past in, "
        "past and present out; none: scores of given tokens, for the model score (default: static)",
    )
    parser.add_argument(
        "--max-batch", type=positive, default=32, metavar="S", help="sequences (default: 32)"
    )
    parser.add_argument(
        "--chunk", type=positive, default=128, metavar="T", help="prompt tokens (default: 128)"
    )
    parser.add_argument(
        "--builder",
        choices=("tensorrt", "rtx", "none"),
        default="tensorrt",
        help="rtx: only check that TensorRT-RTX takes the graph, without a GPU; none: only write "
        "and prove the graph, to be built elsewhere (default: tensorrt)",
    )
    parser.add_argument(
        "--sm", metavar="N", help="compute capability that rtx builds for, such as 80 (default: 80)"
    )
    parser.add_argument(
        "--workspace", type=positive, metavar="MB", help="memory the builder may try out (all)"
    )


def add_parity(parser: argparse.ArgumentParser) -> None:
    """What to compare on, every limit of a tolerance, and which may be broken."""
    add_text(parser)
    add_limits(parser, *TOLERANCE_HELP)


def add_limits(parser: argparse.ArgumentParser, *names: str) -> None:
    """Some limits of a tolerance, and which may be broken."""
    for name in names:
        defaults = ", ".join(
            f"{precision} {getattr(tolerance, name):g}"
            for precision, tolerance in TOLERANCES.items()
        )
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=float,
            metavar="X",
            help=f"{TOLERANCE_HELP[name]} (default: {defaults})",
        )
    add_accept(parser)


def add_text(parser: argparse.ArgumentParser, num_tokens: int = 4096) -> None:
    """What to measure on, and how much of it."""
    parser.add_argument(
        "--text", type=Path, metavar="FILE", help="text to compare on (default: Python sources)"
    )
    parser.add_argument(
        "--tokens",
        type=positive,
        default=num_tokens,
        metavar="N",
        help=f"tokens of it (default: {num_tokens})",
    )
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="threads to run on (default: all cores)"
    )


def add_contenders(parser: argparse.ArgumentParser) -> None:
    """What to compare, how often to time it, and where to write what comes out."""
    parser.add_argument(
        "contenders",
        type=Path,
        nargs="+",
        metavar="MODEL",
        help="working folder, version, repository (its newest version) or checkpoint (as float32);"
        " the first is what the others are compared with",
    )
    add_registry(parser)
    add_tokenizer(parser)
    add_text(parser)
    parser.add_argument(
        "--rounds", type=positive, default=20, metavar="N", help="timings a step (default: 20)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="also write JSON, a Markdown report and the plots"
    )


def add_verification(parser: argparse.ArgumentParser) -> None:
    """Where it is served, what should be, and how far they may differ."""
    parser.add_argument(
        "contenders",
        type=Path,
        nargs=1,
        metavar="CHECKPOINT_OR_VERSION",
        help="what should be served: a checkpoint, a version or a repository (its newest version)",
    )
    parser.add_argument("--url", required=True, metavar="HOST:PORT", help="where the server is")
    parser.add_argument(
        "--protocol", choices=("grpc", "http"), default="grpc", help="default: grpc"
    )
    parser.add_argument(
        "--precision",
        choices=tuple(TOLERANCES),
        help="whose limits hold (default: that of the version; int4 of one with two graphs)",
    )
    add_registry(parser)
    add_tokenizer(parser)
    add_text(parser, num_tokens=512)
    add_limits(parser, *SERVED_LIMITS)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def add_accept(parser: argparse.ArgumentParser) -> None:
    """Which figures may be beyond their limits."""
    parser.add_argument(
        "--accept",
        action="append",
        choices=METRICS,
        default=[],
        metavar="METRIC",
        help="go on though this figure is beyond its limit, which the manifest then says: "
        f"{', '.join(METRICS)}; may be given several times",
    )


def positive(text: str) -> int:
    """A whole number from 1 up; raises ArgumentTypeError."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 up")
    return int(text)
