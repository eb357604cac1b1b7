import base64
import inspect
import json
import os
import pickle
import random
from pathlib import Path

import pytest
import tiktoken
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from export.vocabulary import find_vocabulary
from nanotriton.errors import TokenizerError
from nanotriton.tokenizer import load_tokenizer

CODE = inspect.getsource(inspect) + "naïve café 日本語 — 🙂 ½\u2028 \t\r\n  x"
CHARS = sorted(set("def f(x):\n    return x"))
OWN_PATTERN = r" ?[A-Za-z_]+| ?[0-9]{1,3}|[\s\S]"


def train(pre_tokenizer) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator([CODE], trainer)
    return tokenizer


@pytest.fixture(scope="module")
def byte_level() -> Tokenizer:
    """Hugging Face's own tokenizer, with GPT-2's splitting."""
    return train(pre_tokenizers.ByteLevel(add_prefix_space=False))


@pytest.fixture(scope="module")
def folder(byte_level, tmp_path_factory) -> Path:
    """vocab.json and merges.txt of it."""
    path = tmp_path_factory.mktemp("vocab")
    byte_level.model.save(str(path))
    return path


def write_spec(path: Path, tokenizer: Tokenizer, **changes: object) -> Path:
    path.write_text(json.dumps(json.loads(tokenizer.to_str()) | changes))
    return path


def saved(vocabulary, folder: Path):
    """What a server reads back from the files."""
    for name, content in vocabulary.files.items():
        (folder / name).write_bytes(content)
    return load_tokenizer(folder)


def write_meta(path: Path, content: object) -> Path:
    path.write_bytes(pickle.dumps(content))
    return path


def test_vocab_and_merges_tokenize_code_as_hugging_face_does(byte_level, folder, tmp_path):
    tokenizer = saved(find_vocabulary(folder), tmp_path)
    assert tokenizer.encode(CODE) == byte_level.encode(CODE).ids
    assert tokenizer.decode(tokenizer.encode(CODE)) == CODE
    assert tokenizer.end_of_text == byte_level.token_to_id("<|endoftext|>")


@settings(max_examples=300)
@given(text=st.text(st.characters(exclude_categories=("Cs", "Cn", "Co")), max_size=40))
def test_vocab_and_merges_tokenize_any_text_as_hugging_face_does(byte_level, folder, text):
    assume("<|endoftext|>" not in text)  # Hugging Face reads the token there, we plain text
    tokenizer = find_vocabulary(folder).tokenizer
    assert tokenizer.encode(text) == byte_level.encode(text).ids


def test_vocab_and_merges_tokenize_shuffled_code_as_hugging_face_does(byte_level, folder):
    tokenizer = find_vocabulary(folder).tokenizer
    text = "".join(random.Random(5).choices(CODE, k=20_000))
    assert tokenizer.encode(text) == byte_level.encode(text).ids


def test_tokenizer_json_is_converted(byte_level, tmp_path):
    write_spec(tmp_path / "tokenizer.json", byte_level)
    assert find_vocabulary(tmp_path).tokenizer.encode(CODE) == byte_level.encode(CODE).ids


def test_tokenizer_json_keeps_its_own_pattern(tmp_path):
    split = pre_tokenizers.Split(Regex(OWN_PATTERN), "isolated")
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer = train(pre_tokenizers.Sequence([split, plain]))
    write_spec(tmp_path / "tokenizer.json", tokenizer)
    assert find_vocabulary(tmp_path).tokenizer.encode(CODE) == tokenizer.encode(CODE).ids


def test_added_tokens_beside_vocab_json_are_special(folder, tmp_path):
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "added_tokens.json").write_text('{"<|fim_prefix|>": 900}')
    tokenizer = find_vocabulary(tmp_path).tokenizer
    assert tokenizer.special_tokens == {"<|endoftext|>": 0, "<|fim_prefix|>": 900}
    assert tokenizer.num_tokens == 901


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": {"type": "Unigram", "vocab": []}}, "'Unigram', only byte-level BPE"),
        ({"normalizer": {"type": "NFC"}}, "normalizer"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "other than ByteLevel"),
        ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}}, "add_prefix_space"),
        ({"post_processor": {"type": "TemplateProcessing"}}, "post_processor"),
        ({"added_tokens": [{"id": 900, "content": "  ", "special": False}]}, "ordinary token"),
        ({"added_tokens": [{"id": 900}]}, "malformed"),
    ],
    ids=["unigram", "normalizer", "words", "prefix space", "template", "ordinary", "malformed"],
)
def test_tokenizer_json_that_tiktoken_cannot_follow_is_refused(
    byte_level, tmp_path, changes, words
):
    path = write_spec(tmp_path / "tokenizer.json", byte_level, **changes)
    with pytest.raises(TokenizerError, match=words):
        find_vocabulary(path.parent)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda lines: [*lines[:1], lines[2], lines[1], *lines[3:]], "merges in the order of ids"),
        (lambda lines: [*lines, "q zzz"], "not two parts of a token"),
    ],
    ids=["order", "foreign merge"],
)
def test_merges_that_disagree_with_the_ids_are_refused(folder, tmp_path, edit, words):
    (tmp_path / "vocab.json").write_bytes((folder / "vocab.json").read_bytes())
    lines = (folder / "merges.txt").read_text().splitlines()
    (tmp_path / "merges.txt").write_text("\n".join(edit(lines)))
    with pytest.raises(TokenizerError, match=words):
        find_vocabulary(tmp_path)


def write_ranks(path: Path) -> Path:
    ranks = [bytes([byte]) for byte in range(256)] + [b"de", b"def"]
    path.write_bytes(b"".join(base64.b64encode(t) + b" %d\n" % i for i, t in enumerate(ranks)))
    return path


def test_ranks_without_sidecar_get_gpt2s_pattern(tmp_path):
    vocabulary = find_vocabulary(tmp_path, str(write_ranks(tmp_path / "code.tiktoken")))
    assert vocabulary.tokenizer.special_tokens == {"<|endoftext|>": 258}
    assert vocabulary.tokenizer.encode("def") == [257]


@pytest.mark.parametrize("name", ["tokenizer.json", "code.json"])
def test_ranks_sidecar_is_found(tmp_path, name):
    path = write_ranks(tmp_path / "code.tiktoken")
    sidecar = {"kind": "tiktoken", "pattern": r"[\s\S]", "special_tokens": {"<|x|>": 300}}
    (tmp_path / name).write_text(json.dumps(sidecar))
    tokenizer = saved(find_vocabulary(tmp_path, str(path)), tmp_path)
    assert tokenizer.special_tokens == {"<|x|>": 300}
    assert tokenizer.encode("def") == list(b"def")


def test_meta_pkl_becomes_a_char_vocabulary(tmp_path):
    itos = dict(enumerate(CHARS))
    meta = {"vocab_size": len(CHARS), "itos": itos, "stoi": {c: i for i, c in itos.items()}}
    write_meta(tmp_path / "meta.pkl", meta)
    vocabulary = find_vocabulary(tmp_path)
    assert vocabulary.characters == frozenset(CHARS)
    assert saved(vocabulary, tmp_path).decode(range(len(CHARS))) == "".join(CHARS)
    (tmp_path / "meta.pkl").unlink()
    assert find_vocabulary(tmp_path).sha256 == vocabulary.sha256  # now from tokenizer.json


class Hostile:
    def __reduce__(self):
        return (os.mkdir, ("hostile-code-ran",))


def test_hostile_meta_pkl_is_refused_and_does_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_meta(tmp_path / "meta.pkl", {"itos": Hostile()})
    with pytest.raises(TokenizerError, match=r"refused, it asks to load posix\.mkdir"):
        find_vocabulary(tmp_path)
    assert not Path("hostile-code-ran").exists()


@pytest.mark.parametrize(
    "content",
    [{}, {"itos": {1: "a"}}, {"itos": {0: "ab"}}, {"itos": {0: 1}}, {"itos": {0: "\ud800"}}, 7],
    ids=["no itos", "gap", "two characters", "number", "surrogate", "no dict"],
)
def test_meta_pkl_without_characters_is_refused(tmp_path, content):
    write_meta(tmp_path / "meta.pkl", content)
    with pytest.raises(TokenizerError):
        find_vocabulary(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("meta.pkl", b"\x80\x05]"),
        ("tokenizer.json", b"{"),
        ("tokenizer.json", b"[]"),
        ("tokenizer.json", b'{"kind": "tiktoken"}'),
        ("tokenizer.json", b'{"kind": "char", "chars": 7}'),
        ("tokenizer.tiktoken", b"\xff\xff"),
        ("tokenizer.tiktoken", b"YQ== -1\n"),
        ("vocab.json", b'{"a": 0}'),
        ("vocab.json", b'{"a": "0"}'),
    ],
    ids=str,
)
def test_damaged_tokenizer_is_refused_in_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TokenizerError) as refused:
        find_vocabulary(tmp_path)
    assert "\n" not in str(refused.value)


def test_missing_tokenizer_says_how_to_give_one(tmp_path):
    with pytest.raises(TokenizerError, match="--tokenizer gpt2"):
        find_vocabulary(tmp_path)


def test_unknown_name_lists_the_known(tmp_path):
    with pytest.raises(TokenizerError, match=r"'gpt3' is neither a file nor .*gpt2"):
        find_vocabulary(tmp_path, "gpt3")


def test_encoding_that_cannot_be_fetched_is_refused(tmp_path, monkeypatch):
    def fail(_: str) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(tiktoken, "get_encoding", fail)
    with pytest.raises(TokenizerError, match=r"can't be fetched .*TIKTOKEN_CACHE_DIR"):
        find_vocabulary(tmp_path, "gpt2")
