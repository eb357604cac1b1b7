"""The engine's own process over a plan: found by the manifest, refused plainly without a GPU."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from driving import Inbox, engine_service
from plans import HAS_TENSORRT, STAND_IN, write_plan_version

from nanotriton.engine.request import Settings
from nanotriton.manifest import Manifest

PROMPT = [70, 71, 72]


@pytest.fixture
def _gpu_for_processes(monkeypatch):
    """Processes that a test starts find the stand-in too."""
    if not HAS_TENSORRT:
        paths = [str(STAND_IN), *filter(None, [os.environ.get("PYTHONPATH")])]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


def completions(folder, *limits):
    """Three requests at once, answered by a process of their own; and its stats."""
    with engine_service(folder, *limits) as service:
        client = service.client()
        inboxes = [Inbox() for _ in range(3)]
        for token, inbox in enumerate(inboxes):
            settings = Settings(max_tokens=20, logprobs=2, ignore_eos=True)
            client.submit([*PROMPT, token], settings, inbox)
        return [inbox.wait().tokens for inbox in inboxes], client.stats()


@pytest.mark.usefixtures("_gpu_for_processes")
def test_process_serves_the_runner_that_the_manifest_names(artifact_of):
    expected, _ = completions(artifact_of("fp32"))
    found, stats = completions(artifact_of("trt-fp32"), "--max-slots", "32")
    assert found == expected
    assert stats["num_slots"] == 4  # what the plan was built for


@pytest.mark.usefixtures("_gpu_for_processes")
def test_cache_bytes_limit_the_slots_on_the_gpu(artifact_of):
    slot_bytes = 2 * 2 * 2 * 72 * 16 * 2  # L, keys and values, H, M, D, FP16
    limits = ("--kv-cache-bytes", str(2 * slot_bytes + 1))
    _, stats = completions(artifact_of("trt-fp16"), *limits)
    assert (stats["num_slots"], stats["kv_cache_bytes"]) == (2, 2 * slot_bytes)


@pytest.fixture
def broken_plan(checkpoint, tmp_path):
    """A plan whose embedding lacks its last row, which a GPU would look for outside of memory."""
    weights = dict(checkpoint.weights)
    weights["wte.weight"] = weights["wte.weight"][:-1]
    whole = checkpoint.weights["wte.weight"]
    write_plan_version(replace(checkpoint, weights=weights | {"lm_head.weight": whole}), tmp_path)
    return tmp_path


@pytest.mark.skipif(HAS_TENSORRT, reason="breaks the stand-in's device")
@pytest.mark.usefixtures("_gpu_for_processes")
def test_process_that_lost_its_gpu_is_replaced(broken_plan):
    last = Manifest.load(broken_plan).vocab_size - 1
    settings = Settings(max_tokens=3, ignore_eos=True)
    with engine_service(broken_plan) as service:
        for prompt, reason in [(PROMPT, "length"), ([last], None), (PROMPT, "length")]:
            inbox, client = Inbox(), service.client()
            client.submit(prompt, settings, inbox)
            outcome = inbox.wait()
            assert outcome.reason == reason
            if reason is None:
                assert outcome.error.status == "UNAVAILABLE"
    assert any("ended with code 1; starting it again" in line for line in service.log)


@pytest.mark.skipif(HAS_TENSORRT, reason="this machine has TensorRT")
def test_machine_without_a_gpu_is_told_in_one_line(artifact_of, tmp_path):
    command = [sys.executable, "-m", "nanotriton.engine.process"]
    words = [str(artifact_of("trt-fp16")), "--socket", str(tmp_path / "socket")]
    ended = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (1, "")
    said = json.loads(ended.stdout)["error"]
    assert "\n" not in said
    assert "the runner trt needs" in said or "CUDA" in said
