"""Models that break at run time, in the real process: who asked is told, the others go on."""

import shutil
from contextlib import ExitStack

import numpy as np
import pytest
from driving import Inbox, engine_service

from export.model_file import Model, read_model, write_model
from nanotriton.engine.request import Settings
from nanotriton.errors import RunnerError
from nanotriton.manifest import Manifest

PROMPT = [70, 71, 72]
SHORT = Settings(max_tokens=3, ignore_eos=True)


@pytest.fixture
def start_broken(artifact_of, tmp_path):
    """Starts an engine over the tiny model with one weight replaced."""
    stack = ExitStack()

    def start(name, change):
        folder = shutil.copytree(artifact_of("fp32"), tmp_path / "broken")
        model = read_model(folder)
        weights = {one: np.array(weight) for one, weight in model.weights.items()}
        weights[name] = change(weights[name])
        write_model(Model(model.nodes, model.inputs, model.outputs, weights), folder)
        return stack.enter_context(engine_service(folder))

    with stack:
        yield start


def submit(client, prompt, settings=SHORT):
    """Send a request; where its events arrive."""
    inbox = Inbox()
    client.submit(prompt, settings, inbox)
    return inbox


def test_step_that_raises_fails_only_its_requests(start_broken, artifact_of):
    """The embedding lacks its last row, so that ONNX Runtime fails on the last token."""
    service = start_broken("wte.weight", lambda weight: weight[:-1])
    last = Manifest.load(artifact_of("fp32")).vocab_size - 1
    client = service.client()
    running = submit(client, PROMPT, Settings(max_tokens=60, ignore_eos=True))
    failed = submit(client, [70, last]).wait()
    assert isinstance(failed.error, RunnerError)
    assert str(failed.error).startswith("ONNX Runtime failed: ")
    assert running.wait().reason == "length"
    assert submit(client, PROMPT).wait().reason == "length"
    assert client.stats()["num_free_slots"] == client.stats()["num_slots"]
    assert service.log == []


def test_model_that_answers_with_nan_fails_its_requests_by_name(start_broken):
    service = start_broken("ln_f.weight", lambda weight: weight * np.nan)
    client = service.client()
    for _ in range(2):
        failed = submit(client, PROMPT).wait()
        assert "NaN: its weights or input are broken" in str(failed.error)
    stats = client.stats()
    assert stats["num_free_slots"] == stats["num_slots"]
    assert service.log == []
