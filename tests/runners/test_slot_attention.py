"""Our own attention operator, held against NumPy and against the function that stands in for it."""

import dataclasses

import numpy as np
import pytest
from attending import Sizes, feeds_of, open_session, reference, run
from hypothesis import given, settings
from hypothesis import strategies as st

from export import slot_attention
from nanotriton import contract
from nanotriton.runners.graphs import ORT_ERRORS
from nanotriton.runners.native import find_library


@st.composite
def calls(draw):
    """Any call that a runner may make."""
    positions = draw(st.integers(2, 200))
    tokens = draw(st.integers(0, positions))
    lengths = draw(st.lists(st.integers(1, positions), min_size=not tokens, max_size=5))
    return Sizes(
        num_heads=draw(st.integers(1, 5)),
        head_dim=8 * draw(st.integers(2, 16)),
        positions=positions,
        past=draw(st.integers(0, positions - tokens)) if tokens else 0,
        tokens=tokens,
        lengths=tuple(lengths),
        is_int8=draw(st.booleans()),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


@pytest.fixture(scope="module")
def library():
    """The library, which every machine that runs these tests has built."""
    found = find_library()
    assert found is not None, "build it with `python setup.py build_ext --inplace`"
    return found


def attend(sizes, library, num_threads=1):
    return run(open_session(sizes, library, num_threads), feeds_of(sizes))[0]


@settings(max_examples=150)
@given(sizes=calls())
def test_it_computes_what_numpy_does_and_writes_only_its_cells(library, sizes):
    expected, after = reference(sizes, feeds_of(sizes))
    found, caches = run(open_session(sizes, library), feeds_of(sizes))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    for rename in slot_attention.PARTS:
        for name in slot_attention.PAST:
            np.testing.assert_array_equal(caches[rename(name)], after[rename(name)])


CASES = {
    "decode": Sizes(12, 64, 400, lengths=(300, 1, 64, 65, 128, 400)),
    "prompt": Sizes(3, 64, 300, tokens=257),
    "chunk and rows": Sizes(2, 64, 300, past=70, tokens=130, lengths=(200, 300)),
    "draft": Sizes(2, 64, 300, past=200, tokens=5, lengths=(17,)),
    "odd dimension": Sizes(3, 40, 90, past=9, tokens=30, lengths=(77,)),
}


@pytest.mark.parametrize("is_int8", [False, True], ids=["float32", "int8"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_library_and_function_agree(library, case, is_int8):
    sizes = dataclasses.replace(case, is_int8=is_int8)
    found, caches = run(open_session(sizes, library), feeds_of(sizes))
    expected, others = run(open_session(sizes, None), feeds_of(sizes))
    # Over 8 bits one cell in thousands lies at a tie, and falls on the other side of it.
    np.testing.assert_allclose(found, expected, atol=1e-3 if is_int8 else 1e-5)
    for rename, is_there in zip(slot_attention.PARTS, (case.lengths, case.tokens), strict=True):
        for name in slot_attention.PAST if is_there else ():
            mine, theirs = caches[rename(name)], others[rename(name)]
            assert np.abs(mine.astype(np.float64) - theirs).max() <= is_int8


@pytest.mark.parametrize("is_int8", [False, True], ids=["float32", "int8"])
def test_row_does_not_depend_on_its_mates_nor_on_threads(library, is_int8):
    sizes = Sizes(3, 64, 300, past=70, tokens=130, lengths=(200, 33, 300), is_int8=is_int8)
    feeds = feeds_of(sizes)
    together, _ = run(open_session(sizes, library, num_threads=2), feeds)
    chunk = feeds | {name: np.zeros_like(feeds[name][:1, :, :1]) for name in slot_attention.PAST}
    chunk[slot_attention.PACKED] = feeds[slot_attention.PACKED][:130]
    chunk[contract.GRAPH_ATTENDED] = np.zeros((1, 1), np.int64)
    chunk[contract.GRAPH_SEQLENS_K] = np.zeros(1, np.int32)
    alone, _ = run(open_session(sizes, library), chunk)
    np.testing.assert_array_equal(alone, together[:130])
    for row in range(3):
        alone, _ = run(open_session(sizes, library), row_alone(feeds, row))
        np.testing.assert_array_equal(alone[0], together[130 + row])


def row_alone(feeds, row):
    """One decode row of a call, without the chunk."""
    shape = np.array(feeds[contract.chunk_name("past_k")].shape) // [1, 1, 300, 1]
    return feeds | {
        slot_attention.PACKED: feeds[slot_attention.PACKED][130 + row :][:1],
        contract.GRAPH_ATTENDED: np.zeros((1, 1), np.int64),
        contract.GRAPH_SEQLENS_K: feeds[contract.GRAPH_SEQLENS_K][row : row + 1],
        **{name: feeds[name][row : row + 1] for name in slot_attention.PAST},
        contract.chunk_name(contract.GRAPH_ATTENDED): np.zeros((1, 1), np.int64),
        contract.chunk_name(contract.GRAPH_SEQLENS_K): np.zeros(1, np.int32),
        **{
            contract.chunk_name(name): np.zeros(shape, feeds[name].dtype)
            for name in slot_attention.PAST
        },
    }


def test_caches_that_share_no_memory_go_out_as_copies(library):
    sizes = Sizes(lengths=(7, 9), past=3, tokens=12)
    out, caches = run(open_session(sizes, library), feeds_of(sizes))
    feeds = feeds_of(sizes)
    found = open_session(sizes, library).run(None, {name: feeds[name] for name in feeds})
    np.testing.assert_array_equal(found[0], out)
    names = [rename(name) for rename in slot_attention.PARTS for name in slot_attention.PAST]
    for name, present in zip(names, found[1:], strict=True):
        np.testing.assert_array_equal(present, caches[name])


WRONG = {
    "length behind the slot": {contract.GRAPH_SEQLENS_K: np.array([40, 3], np.int32)},
    "negative length": {contract.GRAPH_SEQLENS_K: np.array([-2, 3], np.int32)},
    "fewer lengths than rows": {contract.GRAPH_SEQLENS_K: np.array([4], np.int32)},
    "row that there isn't": {contract.GRAPH_ATTENDED: np.array([[14], [0]])},
    "negative row": {contract.GRAPH_ATTENDED: np.array([[-1], [0]])},
    "two tokens a decode row": {contract.GRAPH_ATTENDED: np.array([[1, 2], [3, 4]])},
    "chunk longer than its past": {"chunk_seqlens_k": np.array([5], np.int32)},
    "other heads": {"past_k": np.zeros((2, 3, 40, 16), np.float32)},
    "other positions": {"past_v": np.zeros((2, 2, 41, 16), np.float32)},
    "cache of three axes": {"past_k": np.zeros((2, 40, 16), np.float32)},
    "packed of no heads' width": {slot_attention.PACKED: np.zeros((14, 90), np.float32)},
    "packed of one axis": {slot_attention.PACKED: np.zeros(96, np.float32)},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_sizes_that_do_not_fit_are_an_error_of_the_call(library, wrong):
    sizes = Sizes(lengths=(7, 9), past=3, tokens=12)
    session = open_session(sizes, library)
    feeds = feeds_of(sizes)
    with pytest.raises(ORT_ERRORS, match="SlotAttention"):
        session.run(None, feeds | wrong)
    session.run(None, feeds)  # and the next one is answered


def test_cache_of_another_type_is_refused_when_the_graph_is_opened(library):
    sizes = Sizes(lengths=(3,), is_int8=True)
    with pytest.raises(ORT_ERRORS, match="SlotAttention"):
        open_session(sizes, library, op=slot_attention.FLOAT)


def test_heads_of_over_256_dimensions_are_refused(library):
    sizes = Sizes(num_heads=1, head_dim=264, lengths=(3,))
    with pytest.raises(ORT_ERRORS, match="8 to 256 dimensions"):
        attend(sizes, library)
