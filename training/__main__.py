"""The command line: each stage reads the files of the one before it.

Results go to stdout, logs to stderr. Exit code 0, 1 for anything the user can mend, 2 for usage.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from training.config import describe_settings, load_config
from training.errors import TrainingError
from training.evaluate import EvaluateConfig, evaluate
from training.figures import show
from training.preparation import add_stages
from training.processes import joined
from training.registering import add_registry, add_stage, recording_of
from training.release import release
from training.sample import SampleConfig
from training.samples import PROMPTS, Samples
from training.train import Trainer

EXAMPLES = """examples:
  python -m training corpus --out data                 what is installed, permissively licensed
  python -m training corpus --out data src/ lib/       these source trees
  python -m training tokenizer data --vocab-size 8192
  python -m training train --data data --out run --set max_minutes=60 --set max_steps=0
  python -m training train --data data --out run --resume
  python -m training register run --data data --name mymodel
  python -m training release --data data --checkpoint run/ckpt.pt --out demo
  python -m training evaluate demo --data data

On a CPU under glibc, set MALLOC_MMAP_THRESHOLD_=4000000000 MALLOC_TRIM_THRESHOLD_=8000000000
MALLOC_TOP_PAD_=500000000 before `train`: large buffers then stay mapped between steps (12100
instead of 9800 tokens a second on 2 cores: 5 M parameters, batch 8 x 512, bfloat16, compile=true).
"""
TRAIN_EXAMPLES = """A killed run goes on with --resume from its last validation as if never stopped.
Several processes share each step's accumulation; the loss is that of one process:
  torchrun --nproc_per_node=2 -m training train --data data --out run --set accumulation=2
Fine-tuning takes the sizes and the tokenizer of its folder:
  python -m training train --data data --out run --set init_from=demo --set learning_rate=2e-4
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one stage; ``argv`` without the program's name, ``sys.argv`` when None."""
    arguments = build_parser().parse_args(argv)
    try:
        result: Mapping[str, object] = arguments.stage(arguments)
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not result:  # a process of torchrun's that is not the first
        return 0
    if arguments.json:
        print(json.dumps(result))
    else:
        print(arguments.show(result))
    return 0


def show_values(result: Mapping[str, object]) -> str:
    return "\n".join(f"{name}: {value}" for name, value in result.items())


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description="Source code in, a small GPT checkpoint with its tokenizer out.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print the result as one JSON object")
    common.set_defaults(show=show_values)
    stages = parser.add_subparsers(required=True, metavar="STAGE")

    add_stages(stages, common)

    train = stages.add_parser(
        "train",
        parents=[common],
        help="token ids -> ckpt.pt",
        epilog=f"settings and their defaults:\n{describe_settings()}\n\n{TRAIN_EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    train.add_argument("config", nargs="?", type=Path, help=".json or .toml file of settings")
    train.add_argument("--data", type=Path, required=True, help="folder of the token ids")
    train.add_argument("--out", type=Path, required=True, help="folder for checkpoints and log")
    train.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="overrides",
        help="one setting of those below, over the file's; may be repeated",
    )
    train.add_argument("--resume", action="store_true", help="go on from OUT/last.pt")
    add_registry(train)
    train.set_defaults(stage=run_train)
    add_stage(stages, common)

    releaser = stages.add_parser("release", parents=[common], help="ckpt.pt -> Hugging Face folder")
    releaser.add_argument("--data", type=Path, required=True, help="folder of corpus and tokenizer")
    releaser.add_argument("--checkpoint", type=Path, required=True, help="ckpt.pt to release")
    releaser.add_argument("--out", type=Path, required=True, help="folder to write to")
    releaser.add_argument(
        "--prompt",
        action="append",
        dest="prompts",
        metavar="TEXT",
        help="for a sample in the card; may be repeated",
    )
    releaser.add_argument(
        "--evaluation",
        type=Path,
        metavar="FILE",
        help="what `evaluate --json` printed of the checkpoint, for the card",
    )
    releaser.add_argument("--temperature", type=float, default=0.4, help="(%(default)s)")
    releaser.set_defaults(stage=run_release)

    evaluator = stages.add_parser("evaluate", parents=[common], help="a checkpoint -> its figures")
    evaluator.add_argument(
        "checkpoint", type=Path, help="ckpt.pt, or a folder of `release`, trained on the data"
    )
    evaluator.add_argument("--data", type=Path, required=True, help="folder of the token ids")
    evaluator.add_argument(
        "--samples", type=int, default=100, help="functions to complete (%(default)s)"
    )
    evaluator.add_argument(
        "--seed", type=int, default=1337, help="of functions, cuts and samples (%(default)s)"
    )
    evaluator.add_argument(
        "--temperature", type=float, default=0.4, help="of sampled completions (%(default)s)"
    )
    evaluator.add_argument(
        "--max-tokens", type=int, help="held-out tokens to measure on (default: all)"
    )
    evaluator.set_defaults(stage=run_evaluate, show=show)
    return parser


def run_train(arguments: argparse.Namespace) -> Mapping[str, object]:
    config = load_config(arguments.config, arguments.overrides)
    with joined(os.environ) as place:
        trainer = Trainer(config, arguments.data, arguments.out, place=place)
        if arguments.resume:
            trainer.resume()
        else:
            trainer.refuse_overwriting()
        recording = recording_of(arguments, asdict(trainer.config), os.environ, place)
        if recording is None:
            progress = trainer.run()
            return asdict(progress) if place.is_first else {}
        with recording:
            progress = trainer.run(recording.follow)
        return asdict(progress) | {"registered": recording.reference}


def run_release(arguments: argparse.Namespace) -> Mapping[str, object]:
    sampling = SampleConfig(temperature=arguments.temperature)
    samples = Samples(arguments.prompts or PROMPTS, sampling=sampling)
    files = release(
        arguments.checkpoint, arguments.data, arguments.out, samples, arguments.evaluation
    )
    return {file.name: file.stat().st_size for file in files}


def run_evaluate(arguments: argparse.Namespace) -> Mapping[str, object]:
    config = EvaluateConfig(
        arguments.samples, arguments.seed, arguments.temperature, arguments.max_tokens
    )
    return evaluate(arguments.checkpoint, arguments.data, config).as_dict()


if __name__ == "__main__":
    sys.exit(main())
