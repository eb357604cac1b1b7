"""The command line's first two stages, ``corpus`` and ``tokenizer``: what they ask and report.

Knows nothing of training; ``__main__`` hangs the stages into the whole command.
"""

import argparse
import textwrap
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from training.bins import BinsInfo, write_bins
from training.bpe import (
    GPT2_EXAMPLE,
    GPT2_EXAMPLE_TOKENS,
    TokenizerSpec,
    byte_tokenizer,
    load_tokenizer,
    save_tokenizer,
    train_tokenizer,
)
from training.corpus import CorpusConfig, build_corpus, num_documents, read_documents
from training.credentials import NAMES
from training.licences import PERMISSIVE, UNKNOWN
from training.progress import track

CORPUS_NOTES = f"""OUT/corpus.json is the record of the build; OUT/dropped.jsonl names every file
left out and why. Files are left out that are vendored, generated, minified, tests, mostly data,
copies or near copies of an earlier file, ignored by git, too large, empty, binary, unreadable, not
UTF-8, that do not parse, or that hold a secret:
{textwrap.fill(", ".join(NAMES), 98)}.

Permissive licences:
{textwrap.fill(", ".join(sorted(PERMISSIVE)), 98)}.
"""

Stages = Any  # argparse keeps the type of its sub-parsers to itself


def add_stages(stages: Stages, common: argparse.ArgumentParser) -> None:
    """Add both to the sub-parsers of the whole command."""
    _add_corpus(stages, common)
    _add_tokenizer(stages, common)


def _add_corpus(stages: Stages, common: argparse.ArgumentParser) -> None:
    defaults = CorpusConfig()
    corpus = stages.add_parser(
        "corpus",
        parents=[common],
        help="source trees -> documents and their bytes as token ids",
        epilog=CORPUS_NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    corpus.add_argument(
        "roots",
        nargs="*",
        type=Path,
        metavar="DIR",
        help="a source tree to read, whatever its licence (default: the standard library and "
        "every installed package under a permissive licence)",
    )
    corpus.add_argument("--out", type=Path, required=True, help="folder to write to")
    corpus.add_argument(
        "--allow-licence",
        action="append",
        default=[],
        dest="allowed_licences",
        metavar="ID",
        help="take installed packages under this SPDX licence too (MPL-2.0, say; "
        f"{UNKNOWN!r} for those that declare none); may be repeated",
    )
    corpus.add_argument(
        "--near-duplicate",
        type=float,
        default=defaults.near_duplicate,
        metavar="SIMILARITY",
        help="drop a file this similar to an earlier one, 0.5 to 1; 1 drops exact copies only "
        "(%(default)s)",
    )
    corpus.add_argument(
        "--max-file-bytes",
        type=int,
        default=defaults.max_file_bytes,
        metavar="BYTES",
        help="drop larger files (%(default)s)",
    )
    corpus.add_argument(
        "--max-source-bytes",
        type=int,
        metavar="BYTES",
        help="take about this much from one source tree, then leave out the rest of its files "
        "(default: no limit)",
    )
    corpus.add_argument(
        "--tokenizer",
        type=Path,
        metavar="FOLDER",
        help="encode with the tokenizer of this folder (default: one token a byte, "
        "until the tokenizer stage has trained one)",
    )
    corpus.add_argument(
        "--seed", type=int, default=defaults.seed, help="of the split (%(default)s)"
    )
    corpus.add_argument(
        "--val-share",
        type=float,
        default=defaults.val_share,
        metavar="SHARE",
        help="expected share of files held out (%(default)s)",
    )
    corpus.set_defaults(stage=run_corpus)


def _add_tokenizer(stages: Stages, common: argparse.ArgumentParser) -> None:
    tokenizer = stages.add_parser(
        "tokenizer", parents=[common], help="documents -> byte-level BPE and token ids"
    )
    folder = tokenizer.add_mutually_exclusive_group(required=True)
    folder.add_argument("folder", nargs="?", type=Path, metavar="DATA", help="folder of the corpus")
    folder.add_argument("--data", type=Path, metavar="DATA", help="the same, by name")
    tokenizer.add_argument(
        "--vocab-size",
        type=int,
        default=4096,
        metavar="IDS",
        help="ids in all: bytes, merges and special tokens (%(default)s)",
    )
    tokenizer.set_defaults(stage=run_tokenizer)


def run_corpus(arguments: argparse.Namespace) -> Mapping[str, object]:
    """Build the corpus, encode it, and return what matters of the report."""
    started_at = time.monotonic()
    config = CorpusConfig(
        roots=tuple(arguments.roots),
        seed=arguments.seed,
        val_share=arguments.val_share,
        max_file_bytes=arguments.max_file_bytes,
        max_source_bytes=arguments.max_source_bytes,
        near_duplicate=arguments.near_duplicate,
        allowed_licences=tuple(arguments.allowed_licences),
    )
    spec = load_tokenizer(arguments.tokenizer) if arguments.tokenizer else byte_tokenizer()
    report = build_corpus(config, arguments.out)
    save_tokenizer(spec, arguments.out)
    info = write_bins(arguments.out, spec)
    licences: Counter[str] = Counter()
    for source in report.sources:
        licences[source.licence] += source.bytes
    return {
        "files": report.files,
        "bytes": report.bytes,
        "bytes by licence": dict(licences.most_common()),
        "packages refused": report.refused,
        "files dropped": report.dropped,
        "tokens": {"train": info.train_tokens, "val": info.val_tokens},
        "seconds": round(time.monotonic() - started_at, 1),
    }


def run_tokenizer(arguments: argparse.Namespace) -> Mapping[str, object]:
    """Train it on the train split, encode both splits, and return how well it compresses."""
    data_dir: Path = arguments.folder or arguments.data
    total = num_documents(data_dir, "train")
    documents = track(read_documents(data_dir, "train"), total, "tokenizer: files read")
    _, spec = train_tokenizer((document.text for document in documents), arguments.vocab_size)
    save_tokenizer(spec, data_dir)
    return _measured(spec, write_bins(data_dir, spec))


def _measured(spec: TokenizerSpec, info: BinsInfo) -> dict[str, object]:
    example_tokens = len(spec.encoding().encode_ordinary(GPT2_EXAMPLE))
    return asdict(info) | {
        "bytes a token, held out": round(info.val_bytes / info.val_tokens, 3),
        "bytes a token, gpt2's published example": {
            "this tokenizer": round(len(GPT2_EXAMPLE) / example_tokens, 2),
            "gpt2 (huggingface.co/learn/llm-course/chapter6/2)": round(
                len(GPT2_EXAMPLE) / GPT2_EXAMPLE_TOKENS, 2
            ),
        },
    }
