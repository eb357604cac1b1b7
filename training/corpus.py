"""Source trees in; ``train.jsonl``, ``val.jsonl``, ``dropped.jsonl`` and ``corpus.json`` out.

A document is one Python file. Which side of the split it falls on depends on its content and the
seed alone, so a file never moves when others come or go; copies and near copies of an earlier file
are left out, so that none stands on the other side. The same trees and settings give the same
bytes. Knows nothing of tokens.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from training.duplicates import Repeats
from training.errors import CorpusError
from training.files import write_json, writing
from training.filters import Drop, read_source
from training.progress import track
from training.sources import Found, Tree, select_trees

SPLITS = ("train", "val")
OVER_SHARE = Drop("beyond its source's share")


@dataclass(frozen=True, slots=True)
class CorpusConfig:
    """What goes into a corpus; no ``roots`` means what is installed under a permissive licence.

    ``val_share`` is the expected share of files held out. ``near_duplicate`` is the Jaccard
    similarity of five-word runs from which a file repeats another; 1 finds exact copies only.
    ``max_source_bytes`` bounds what one tree gives, so that none is most of the corpus; its files
    are then taken in an order that depends on their names and the seed alone.
    """

    roots: tuple[Path, ...] = ()
    seed: int = 1337
    val_share: float = 0.05
    max_file_bytes: int = 200_000  # above it stand generated tables, hardly ever written code
    max_source_bytes: int | None = None
    near_duplicate: float = 0.85  # as for The Stack (arXiv:2211.15533)
    allowed_licences: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0.0 < self.val_share < 1.0:
            raise CorpusError(
                f"val_share is {self.val_share}, it must lie between 0 and 1: try 0.05"
            )
        if self.max_file_bytes < 1:
            raise CorpusError(f"max_file_bytes is {self.max_file_bytes}, it must be at least 1")
        if self.max_source_bytes is not None and self.max_source_bytes < 1:
            raise CorpusError(f"max_source_bytes is {self.max_source_bytes}, it must be at least 1")
        if not 0.5 <= self.near_duplicate <= 1.0:
            raise CorpusError(
                f"near_duplicate is {self.near_duplicate}, it must lie between 0.5 and 1: try 0.85"
            )
        if not -(2**63) <= self.seed < 2**63:
            raise CorpusError(f"seed is {self.seed}, it must fit 64 bits: try 1337")


@dataclass(frozen=True, slots=True)
class Document:
    """One source file: ``path`` is its tree's name and the path inside that tree."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """A file left out, and the earlier file that it repeats if that is why."""

    path: str
    reason: str
    like: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """What one tree gave, both splits together."""

    name: str
    licence: str
    files: int
    bytes: int
    version: str


@dataclass(frozen=True, slots=True)
class Report:
    """Files and UTF-8 bytes kept by split, files dropped by reason, and what each tree gave.

    ``refused`` names the installed packages left out, with their licences; ``sha256`` is of the
    files written.
    """

    files: dict[str, int]
    bytes: dict[str, int]
    dropped: dict[str, int]
    sources: list[Source]
    refused: dict[str, str]
    sha256: dict[str, str]


@dataclass(slots=True)
class _Count:
    files: int = 0
    bytes: int = 0

    def add(self, num_bytes: int) -> None:
        self.files += 1
        self.bytes += num_bytes


def build_corpus(config: CorpusConfig, out_dir: Path) -> Report:
    """Write both splits, what was dropped, and ``corpus.json`` to ``out_dir``; report on them.

    Raises CorpusError when a root is no folder, when a split would be empty or when ``out_dir``
    cannot be written; no file there is replaced then.
    """
    selection = select_trees(config.roots, frozenset(config.allowed_licences))
    sources = {tree: _Count() for tree in selection.trees}
    splits = {split: _Count() for split in SPLITS}
    dropped: Counter[str] = Counter()
    with ExitStack() as stack:
        outputs = {
            name: stack.enter_context(writing(out_dir / f"{name}.jsonl"))
            for name in (*SPLITS, "dropped")
        }
        for tree, item in _judged(selection.trees, config):
            if isinstance(item, Dropped):
                dropped[item.reason] += 1
                outputs["dropped"].write(_line(item))
                continue
            encoded = item.text.encode()
            split = split_of(hashlib.sha256(encoded).digest(), config.seed, config.val_share)
            outputs[split].write(_line(item))
            splits[split].add(len(encoded))
            sources[tree].add(len(encoded))
        _check(splits)
        for output in outputs.values():  # a full disk shows here, before any file is replaced
            output.flush()
    report = Report(
        files={split: count.files for split, count in splits.items()},
        bytes={split: count.bytes for split, count in splits.items()},
        dropped=dict(dropped.most_common()),
        sources=[
            Source(tree.name, tree.licence, count.files, count.bytes, tree.version)
            for tree, count in sources.items()
        ],
        refused=selection.refused,
        sha256={f"{name}.jsonl": output.sha256 for name, output in outputs.items()},
    )
    write_json(out_dir / "corpus.json", _settings(config) | asdict(report))
    return report


def _judged(
    trees: Sequence[Tree], config: CorpusConfig
) -> Iterator[tuple[Tree, Document | Dropped]]:
    """Every file of every tree, in order, kept or dropped."""
    repeats = Repeats(config.near_duplicate)
    listed = [(tree, file) for tree in trees for file in _ordered(tree, config)]
    bytes_of: Counter[Tree] = Counter()
    for tree, file in track(listed, len(listed), "corpus: files read"):
        if config.max_source_bytes is not None and bytes_of[tree] >= config.max_source_bytes:
            yield tree, Dropped(file.name, OVER_SHARE.reason)
            continue
        item = _judge(file, config.max_file_bytes, repeats)
        if isinstance(item, Document):
            bytes_of[tree] += len(item.text.encode())
        yield tree, item


def _ordered(tree: Tree, config: CorpusConfig) -> Iterable[Found]:
    if config.max_source_bytes is None:
        return tree.files()
    return sorted(tree.files(), key=lambda file: _mixed(file.name.encode(), config.seed))


def _judge(file: Found, max_bytes: int, repeats: Repeats) -> Document | Dropped:
    text = file.drop or read_source(file.path, max_bytes)
    if isinstance(text, Drop):
        return Dropped(file.name, text.reason)
    repeat = repeats.find_or_add(file.name, text)
    if repeat is None:
        return Document(file.name, text)
    reason = "duplicate" if repeat.is_exact else "near-duplicate"
    return Dropped(file.name, reason, repeat.of)


def split_of(digest: bytes, seed: int, val_share: float) -> str:
    """The split of a document with this content digest; no other document matters."""
    return "val" if _mixed(digest, seed) < val_share * 2**64 else "train"


def _mixed(content: bytes, seed: int) -> int:
    """A number below 2**64 that depends on both and on nothing else."""
    mixed = hashlib.sha256(seed.to_bytes(8, "big", signed=True) + content).digest()
    return int.from_bytes(mixed[:8], "big")


def _line(item: Document | Dropped) -> bytes:
    return (json.dumps(asdict(item)) + "\n").encode()


def _check(splits: Mapping[str, _Count]) -> None:
    num_files = sum(count.files for count in splits.values())
    for split, count in splits.items():
        if not count.files:
            raise CorpusError(
                f"the {split} split has 0 of {num_files} files, it needs 1: "
                "add source trees or change val_share or seed"
            )


def _settings(config: CorpusConfig) -> dict[str, object]:
    """All but the roots, which are local paths: the sources' names and versions stand for them."""
    return {
        "seed": config.seed,
        "val_share": config.val_share,
        "max_file_bytes": config.max_file_bytes,
        "max_source_bytes": config.max_source_bytes,
        "near_duplicate": config.near_duplicate,
        "allowed_licences": list(config.allowed_licences),
        "named_sources": bool(config.roots),
    }


def num_documents(corpus_dir: Path, split: str) -> int:
    """How many ``read_documents`` yields."""
    with _split_path(corpus_dir, split).open("rb") as lines:
        return sum(1 for _ in lines)


def read_documents(corpus_dir: Path, split: str) -> Iterator[Document]:
    """The documents of ``train`` or ``val``, in the order they were written."""
    path = _split_path(corpus_dir, split)
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield Document(**json.loads(line))
            except (TypeError, ValueError) as error:
                raise CorpusError(
                    f"line {number} of {path} is damaged: run `python -m training corpus` again"
                ) from error


def _split_path(corpus_dir: Path, split: str) -> Path:
    path = corpus_dir / f"{split}.jsonl"
    if not path.is_file():
        raise CorpusError(f"{path} is missing: run `python -m training corpus --out {corpus_dir}`")
    return path
