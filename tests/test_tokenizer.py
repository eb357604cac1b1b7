import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanotriton.errors import InvalidRequest, TokenizerError
from nanotriton.tokenizer import (
    END_OF_TEXT,
    TextDecoder,
    char_tokenizer,
    load_tokenizer,
    tiktoken_tokenizer,
)

DEMO = load_tokenizer(Path(__file__).parent.parent / "demo")
BYTES = {bytes([byte]): byte for byte in range(256)}
PATTERN = r"\w+|\s+|[^\w\s]+"
BYTE_TABLE = tuple(BYTES)
CODE = st.text(st.characters(codec="utf-8") | st.sampled_from("def return():\n    é😀→"))
CUTS = st.lists(st.integers(0, 60), max_size=8)


def ranks_text(ranks):
    """A ranks file's text."""
    return "".join(f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items())


GOOD_RANKS = ranks_text(BYTES)


@pytest.fixture
def folder_of(tmp_path):
    """Writes a tokenizer's two files; takes tokenizer.json's content or keys, and the ranks."""

    def write(spec=None, ranks=GOOD_RANKS, **changes):
        whole = {"kind": "tiktoken", "pattern": PATTERN, "special_tokens": {}} | changes
        (tmp_path / "tokenizer.json").write_text(json.dumps(whole) if spec is None else spec)
        (tmp_path / "tokenizer.tiktoken").write_text(ranks)
        return tmp_path

    return write


def decode_in_pieces(table, ids, cuts):
    """Text of ids that come in pieces."""
    ends = [*sorted(min(cut, len(ids)) for cut in cuts), len(ids)]
    decoder = TextDecoder(table)
    pieces = [ids[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    return "".join(decoder.push(piece) for piece in pieces)


@given(CODE)
def test_any_text_comes_back_from_its_tokens(text):
    assert DEMO.decode(DEMO.encode(text)) == text


@given(st.text("abc é\n"))
def test_any_text_of_a_char_vocabulary_comes_back(text):
    tokenizer = char_tokenizer(list("abc é\n"))
    ids = tokenizer.encode(text)
    assert len(ids) == len(text)
    assert tokenizer.decode(ids) == text


@given(st.binary(max_size=60), CUTS)
def test_any_bytes_in_any_pieces_decode_as_they_do_at_once(raw, cuts):
    at_once = TextDecoder(BYTE_TABLE).push(raw)
    assert decode_in_pieces(BYTE_TABLE, raw, cuts) == at_once


@given(st.lists(st.integers(0, DEMO.num_tokens - 1), max_size=60), CUTS)
def test_any_tokens_in_any_pieces_decode_as_they_do_at_once(ids, cuts):
    assert decode_in_pieces(DEMO.table, ids, cuts) == DEMO.decode(ids)


@given(st.text(max_size=20), st.sampled_from("é→😀"), st.integers(1, 3))
def test_character_that_is_cut_off_at_the_end_is_left_out(text, char, missing):
    cut = (text + char).encode()[: -min(missing, len(char.encode()) - 1)]
    assert TextDecoder(BYTE_TABLE).push(cut) == text


def test_bytes_that_can_never_be_text_are_shown_as_such():
    assert TextDecoder(BYTE_TABLE).push(b"a\xffb") == "a\ufffdb"


def test_waiting_bytes_come_out_with_the_rest_of_their_character():
    decoder = TextDecoder(BYTE_TABLE)
    assert [decoder.push([byte]) for byte in "→".encode()] == ["", "", "→"]


@pytest.mark.parametrize("token", DEMO.special_tokens.values(), ids=DEMO.special_tokens)
def test_special_token_decodes_to_nothing(token):
    ids = DEMO.encode("ab")
    assert DEMO.decode([*ids, token, *ids]) == "abab"


@pytest.mark.parametrize("text", DEMO.special_tokens)
def test_text_of_a_special_token_in_a_prompt_stays_plain_text(text):
    ids = DEMO.encode(f"a{text}b")
    assert not set(ids) & set(DEMO.special_tokens.values())
    assert DEMO.decode(ids) == f"a{text}b"


def test_end_of_text_is_the_special_token_of_that_name(folder_of):
    assert DEMO.end_of_text == DEMO.special_tokens[END_OF_TEXT]
    assert char_tokenizer(["a"]).end_of_text is None
    assert load_tokenizer(folder_of(special_tokens={"<|pad|>": 300})).end_of_text is None


def test_ids_between_ranks_and_special_tokens_are_counted(folder_of):
    tokenizer = load_tokenizer(folder_of(special_tokens={END_OF_TEXT: 300}))
    assert tokenizer.num_tokens == 301
    assert tokenizer.decode([97, 280, 98]) == "ab"


def test_longest_token_bounds_the_tokens_of_a_text():
    tokenizer = tiktoken_tokenizer({**BYTES, b"ab": 256, b"abab": 257}, PATTERN, {})
    assert tokenizer.longest_token_bytes == 4
    assert len(tokenizer.encode("abab" * 5)) >= 5


@pytest.mark.parametrize(("text", "char", "position"), [("abz", "z", 2), ("a\x00", "\\x00", 1)])
def test_character_outside_the_vocabulary_is_refused_by_name(text, char, position):
    with pytest.raises(InvalidRequest) as refusal:
        char_tokenizer(["a", "b"]).encode(text)
    assert str(refusal.value) == (
        f"the character '{char}' at position {position} is not in this model's vocabulary of 2 "
        "characters: leave it out"
    )


def test_char_tokenizer_loads_from_its_file(folder_of):
    tokenizer = load_tokenizer(folder_of('{"kind": "char", "chars": ["b", "a"]}'))
    assert tokenizer.encode("ab") == [1, 0]


@pytest.mark.parametrize(
    ("ranks", "words"),
    [
        ("", "tokenizer.tiktoken holds no ranks"),
        ("YQ==\n", "line 1 is b'YQ==', expected `base64"),
        ("YQ== 0\nYQ 1\n", "line 2 is b'YQ 1', expected `base64"),
        ("YQ== one\n", "line 1 is b'YQ== one', expected"),
        ("YQ== 0\nYg== 0\n", "gives one rank to two tokens"),
        ("YQ== 0\nYg== 1\n", "lack 254 of the 256 single bytes .first: 0.: byte-level BPE needs"),
        (ranks_text(BYTES) + "YWI= -1\n", "tokenizer.json is no tokenizer .OverflowError"),
    ],
    ids=["empty", "no-rank", "no-base64", "no-number", "twice", "few-bytes", "negative"],
)
def test_broken_ranks_are_refused_in_plain_words(folder_of, ranks, words):
    with pytest.raises(TokenizerError, match=words):
        load_tokenizer(folder_of(ranks=ranks))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("{", "is no tokenizer .JSONDecodeError.*: export again"),
        ("[]", "is no tokenizer .TypeError"),
        ("{}", "is no tokenizer .KeyError.'kind'"),
        ('{"kind": "bpe"}', "has kind 'bpe', known are 'char' and 'tiktoken'"),
        ('{"kind": "char", "chars": []}', "a list of distinct single characters"),
        ('{"kind": "char", "chars": ["a", "a"]}', "a list of distinct single characters"),
        ('{"kind": "char", "chars": ["ab"]}', "a list of distinct single characters"),
        ('{"kind": "char", "chars": ["\\ud800"]}', "is no tokenizer .UnicodeEncodeError"),
        ('{"kind": "tiktoken", "pattern": "a"}', "is no tokenizer .KeyError.'special_tokens'"),
    ],
    ids=["json", "list", "empty", "kind", "none", "same", "two", "surrogate", "no-special"],
)
def test_broken_tokenizer_file_is_refused_in_plain_words(folder_of, spec, words):
    with pytest.raises(TokenizerError, match=words):
        load_tokenizer(folder_of(spec))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pattern": "("}, "is no tokenizer .ValueError"),
        ({"special_tokens": []}, "is no tokenizer .AttributeError"),
        ({"special_tokens": {"<|a|>": -1}}, "is no tokenizer .OverflowError"),
        ({"special_tokens": {"<|a|>": 97}}, r"special token ids \[97\] are ranks of ordinary"),
    ],
    ids=["pattern", "special-list", "special-negative", "special-clash"],
)
def test_broken_tiktoken_settings_are_refused_in_plain_words(folder_of, changes, words):
    with pytest.raises(TokenizerError, match=words):
        load_tokenizer(folder_of(**changes))


@pytest.mark.parametrize("missing", ["tokenizer.json", "tokenizer.tiktoken"])
def test_missing_file_is_named(folder_of, missing):
    folder = folder_of()
    (folder / missing).unlink()
    with pytest.raises(TokenizerError, match=f"{missing} can't be read .No such file"):
        load_tokenizer(folder)
