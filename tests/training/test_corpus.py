"""What a corpus keeps, what it drops and why, and how it splits."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from training.corpus import SPLITS, CorpusConfig, build_corpus, num_documents, read_documents
from training.errors import CorpusError

GOOD = {f"good_{i}.py": f"value_{i} = {i}\n".encode() for i in range(40)}
LONG = "".join(
    f"def area_{i}(width, height):\n    return width * height + {i}\n" for i in range(40)
)
BAD = {
    "binary.py": b"\x00\x01\x02",
    "latin1.py": "name = 'é'\n".encode("latin-1"),
    "empty.py": b" \n\n",
    "python2.py": b"print 'hello'\n",
    "large.py": b"x = 1\n" * 1000,
    "copy.py": GOOD["good_1.py"],
    "long_copy.py": LONG.replace("area_7", "surface_7").encode(),
    "key.py": b"KEY = 'AKIAABCDEFGHIJKLMNOP'\n",
    "tables_pb2.py": b"x = 1\n",
    "packed.py": b"x = [" + b"1," * 600 + b"]\n",
    "vendor/six.py": b"PY3 = True\n",
    "tests/data.py": b"CASES = ()\n",
    "ignored.py": b"secret = 1\n",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    files = GOOD | BAD | {"long.py": LONG.encode(), ".gitignore": b"/ignored.py\n", "a.txt": b"no"}
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (root / "dangling.py").symlink_to(root / "nowhere.py")
    (root / "loop").symlink_to(root, target_is_directory=True)
    os.mkfifo(root / "pipe.py")
    return root


def config_for(*roots: Path) -> CorpusConfig:
    return CorpusConfig(roots, val_share=0.3, max_file_bytes=4000)


def test_bad_files_are_counted_and_skipped(tree: Path, tmp_path: Path) -> None:
    report = build_corpus(config_for(tree), tmp_path / "out")

    assert sum(report.files.values()) == len(GOOD) + 1
    assert report.dropped == {
        "unreadable": 2,  # the dangling link and the pipe
        "binary": 1,
        "not UTF-8": 1,
        "empty": 1,
        "does not parse": 1,
        "too large": 1,
        "duplicate": 1,
        "near-duplicate": 1,
        "secret: AWS access key": 1,
        "generated": 1,
        "minified": 1,
        "vendored": 1,
        "test or test data": 1,
        "ignored by git": 1,
    }


def test_every_dropped_file_is_named_and_no_secret_is(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = build_corpus(config_for(tree), out)

    dropped = [json.loads(line) for line in (out / "dropped.jsonl").read_text().splitlines()]
    assert len(dropped) == sum(report.dropped.values())
    similar = {"path": "tree/long_copy.py", "reason": "near-duplicate", "like": "tree/long.py"}
    assert similar in dropped
    assert not any(b"AKIA" in path.read_bytes() for path in out.iterdir())


def test_same_tree_gives_the_same_bytes(tree: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        report = build_corpus(config_for(tree), tmp_path / name)

    files = {path.name: path.read_bytes() for path in (tmp_path / "first").iterdir()}
    assert files.keys() == {"train.jsonl", "val.jsonl", "dropped.jsonl", "corpus.json"}
    assert all((tmp_path / "second" / name).read_bytes() == raw for name, raw in files.items())
    for name, digest in report.sha256.items():
        assert hashlib.sha256(files[name]).hexdigest() == digest


def test_record_tells_settings_sources_and_counts(tree: Path, tmp_path: Path) -> None:
    report = build_corpus(config_for(tree), tmp_path / "out")

    record = json.loads((tmp_path / "out" / "corpus.json").read_text())
    assert record["files"] == report.files
    assert record["sources"][0]["name"] == "tree"
    assert record["sources"][0]["bytes"] == sum(report.bytes.values())
    assert (record["seed"], record["val_share"]) == (1337, 0.3)
    assert str(tmp_path) not in json.dumps(record)


def test_no_file_stands_on_both_sides(tree: Path, tmp_path: Path) -> None:
    build_corpus(config_for(tree), tmp_path)

    train, val = ({d.text for d in read_documents(tmp_path, split)} for split in SPLITS)
    assert train.isdisjoint(val)
    assert num_documents(tmp_path, "train") == len(train)


@pytest.mark.parametrize("seed", range(8))
def test_near_copies_are_never_split_across_train_and_val(tmp_path: Path, seed: int) -> None:
    for i in range(8):
        (tmp_path / f"good_{i}.py").write_bytes(GOOD[f"good_{i}.py"])
        (tmp_path / f"variant_{i}.py").write_text(LONG.replace("area_7", f"area_{i}00"))
    build_corpus(CorpusConfig((tmp_path,), seed=seed, val_share=0.5), tmp_path / "out")

    texts = [d.text for split in SPLITS for d in read_documents(tmp_path / "out", split)]
    assert sum("width * height" in text for text in texts) == 1


def test_exact_copies_alone_go_at_similarity_one(tree: Path, tmp_path: Path) -> None:
    config = CorpusConfig((tree,), val_share=0.3, near_duplicate=1.0)

    report = build_corpus(config, tmp_path / "out")

    assert report.dropped["duplicate"] == 1
    assert "near-duplicate" not in report.dropped


def test_no_source_gives_much_more_than_its_share(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        for i in range(20):
            (tmp_path / name / f"{i}.py").write_text(f"{name}_{i} = {'x' * 80!r}\n")
    roots = (tmp_path / "first", tmp_path / "second")
    config = CorpusConfig(roots, val_share=0.3, max_source_bytes=1000, near_duplicate=1.0)

    report = build_corpus(config, tmp_path / "out")
    again = build_corpus(config, tmp_path / "again")

    assert all(1000 <= source.bytes < 1200 for source in report.sources)
    assert report.dropped == {"beyond its source's share": 40 - sum(report.files.values())}
    assert again.sha256 == report.sha256


def test_file_stays_on_its_side_when_others_go(tree: Path, tmp_path: Path) -> None:
    build_corpus(config_for(tree), tmp_path / "all")
    for i in range(20, 40):
        (tree / f"good_{i}.py").unlink()
    build_corpus(config_for(tree), tmp_path / "half")

    for split in SPLITS:
        everything = {d.path for d in read_documents(tmp_path / "all", split)}
        assert {d.path for d in read_documents(tmp_path / "half", split)} <= everything


def test_missing_root_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"nowhere is not a folder"):
        build_corpus(config_for(tmp_path / "nowhere"), tmp_path / "out")


def test_corpus_without_held_out_files_is_refused_and_not_written(tmp_path: Path) -> None:
    (tmp_path / "only.py").write_text("x = 1\n")

    with pytest.raises(CorpusError, match="split has 0 of 1 files"):
        build_corpus(CorpusConfig((tmp_path,), val_share=0.5), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's full device")
def test_full_disk_is_one_sentence_and_replaces_nothing(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    before = build_corpus(config_for(tree), out).sha256
    (tree / "new.py").write_text("new = True\n")
    (out / "val.jsonl.part").symlink_to("/dev/full")

    with pytest.raises(CorpusError, match=r"cannot write .*val.jsonl \(No space left on device\)"):
        build_corpus(config_for(tree), out)
    after = {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in before}
    assert after == before
    assert not list(out.glob("*.part"))


def test_damaged_split_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"path": "a.py", "text": ""}\n{"path": "b\n')

    with pytest.raises(CorpusError, match=r"line 2 of .*train.jsonl is damaged"):
        list(read_documents(tmp_path, "train"))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("val_share", 0.0),
        ("val_share", 1.0),
        ("max_file_bytes", 0),
        ("max_source_bytes", 0),
        ("near_duplicate", 0.2),
        ("seed", 2**63),
    ],
)
def test_setting_outside_its_range_is_refused(setting: str, value: float) -> None:
    with pytest.raises(CorpusError, match=f"{setting} is"):
        CorpusConfig(**{setting: value})  # type: ignore[arg-type]
