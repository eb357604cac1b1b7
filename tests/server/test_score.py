import shutil

import numpy as np
import pytest
import tritonclient.grpc as triton
from running import QUICK, ROOT, start_server
from tritonclient.utils import InferenceServerException

from export.__main__ import main as export
from export.checkpoint import load_checkpoint
from export.reference import Reference

PAIRS = [
    ("def mean(values):\n    return ", "sum(values) / len(values)\n"),
    ("def mean(values):\n    return ", "zebra"),
    ("import os\n\nfor name in os.", "listdir(path):\n"),
]


@pytest.fixture(scope="module")
def scoring(demo_repository, tmp_path_factory):
    """A server of the demo model that also scores."""
    folder = tmp_path_factory.mktemp("score")
    repository = shutil.copytree(demo_repository, folder / "repository")
    work = ("--kv", "none", "--builder", "none", "--precision", "fp32", "--out", folder / "work")
    assert export([str(word) for word in ("plan", ROOT / "demo", *work, *QUICK)]) == 0
    assert export(["repository", str(folder / "work"), "--repository", str(repository)]) == 0
    running = start_server(repository, folder / "log")
    with triton.InferenceServerClient(f"localhost:{running.grpc_port}") as client:
        yield client
    running.stop()


def score(client, pairs):
    """The outputs of one request, by name."""
    inputs = []
    for index, name in enumerate(("text_input", "continuation")):
        column = np.array([[pair[index].encode()] for pair in pairs], np.object_)
        inputs.append(triton.InferInput(name, list(column.shape), "BYTES"))
        inputs[-1].set_data_from_numpy(column)
    found = client.infer("score", inputs)
    names = ("logprob", "num_tokens", "token_logprobs", "token_ranks")
    return {name: found.as_numpy(name) for name in names}


def expected_logprobs(text, continuation):
    """Of each token of the continuation, by plain NumPy."""
    checkpoint = load_checkpoint(ROOT / "demo")
    before, after = (checkpoint.vocabulary.tokenizer.encode(one) for one in (text, continuation))
    reference = Reference(checkpoint)
    hidden = reference.hidden(np.array([*before, *after[:-1]]))[len(before) - 1 :]
    logits = reference.logits(hidden).astype(np.float64)
    log = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return log[np.arange(len(after)), after]


def test_score_is_the_models_log_probability_of_each_continuation(scoring):
    found = score(scoring, PAIRS)
    for row, pair in enumerate(PAIRS):
        expected = expected_logprobs(*pair)
        assert found["num_tokens"][row, 0] == len(expected)
        scores = found["token_logprobs"][row]
        np.testing.assert_allclose(scores[: len(expected)], expected, atol=1e-4)
        assert not scores[len(expected) :].any()
        assert found["logprob"][row, 0] == pytest.approx(expected.sum(), abs=1e-3)


def test_likelier_continuation_ranks_higher(scoring):
    found = score(scoring, PAIRS[:2])
    assert found["logprob"][0, 0] / found["num_tokens"][0, 0] > (
        found["logprob"][1, 0] / found["num_tokens"][1, 0]
    )
    assert found["token_ranks"][0, 0] < found["token_ranks"][1, 0]


def test_rows_are_scored_alike_in_any_batch(scoring):
    together = score(scoring, PAIRS)["logprob"]
    apart = [score(scoring, [pair])["logprob"][0] for pair in PAIRS]
    np.testing.assert_allclose(together, apart, atol=1e-4)


def test_what_can_not_be_scored_is_refused_with_its_status(scoring):
    with pytest.raises(InferenceServerException, match="continuation is empty") as refused:
        score(scoring, [("x", "")])
    assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"
