"""What only the TensorRT runner has to get right; the rest is the conformance suite's."""

import dataclasses
import itertools
import random
import shutil

import numpy as np
import pytest
from driving import PEER, outcome_of
from plans import HAS_TENSORRT, write_plan_version
from stepping import decode, prefill

from nanotriton.contract import PLAN_FILE
from nanotriton.engine.core import Engine, EngineOptions
from nanotriton.engine.request import Request, Settings
from nanotriton.errors import DeviceLost, RunnerError
from nanotriton.manifest import Manifest
from nanotriton.runners.ort import OrtRunner
from nanotriton.runners.phase import MAX_CAPTURED
from nanotriton.runners.trt import TrtRunner
from nanotriton.tokenizer import load_tokenizer

only_stand_in = pytest.mark.skipif(HAS_TENSORRT, reason="looks into the stand-in")
PROMPTS = [random.Random(seed).choices(range(283), k=1 + 2 * seed) for seed in range(20)]


@pytest.fixture
def open_plan(artifact_of):
    """Opens runners over the tiny plan of a precision, and closes them."""
    opened = []

    def open_plan(precision="fp32", max_slots=4, cache_bytes=None):
        folder = artifact_of(f"trt-{precision}")
        opened.append(TrtRunner(folder, max_slots, cache_bytes))
        return opened[-1]

    yield open_plan
    for runner in opened:
        runner.close()


@pytest.fixture
def changed_plan(artifact_of, tmp_path):
    """A copy of the tiny plan's version with another manifest or other bytes."""

    def change(edit=lambda plan: plan, **fields):
        folder = shutil.copytree(artifact_of("trt-fp16"), tmp_path / "copy")
        (folder / PLAN_FILE).write_bytes(edit((folder / PLAN_FILE).read_bytes()))
        dataclasses.replace(Manifest.load(folder), **fields).save(folder)
        return folder

    return change


def greedy_texts(runner, folder):
    """Twelve tokens after each prompt, all in one engine."""
    clock = itertools.count()
    engine = Engine(
        runner,
        load_tokenizer(folder),
        lambda: 0,
        lambda: next(clock) * 1e-3,
        EngineOptions(prefill_chunk=10),
    )
    events = [[] for _ in PROMPTS]
    for index, prompt in enumerate(PROMPTS):
        engine.submit(Request((PEER, index), tuple(prompt), Settings(max_tokens=12)))
    while engine.has_work:
        for event in engine.step():
            events[event.key[1]].append(event)
    return [outcome_of(one).tokens for one in events]


@pytest.mark.parametrize(("precision", "least"), [("fp32", 1.0), ("fp16", 0.9)])
def test_engine_writes_what_it_writes_on_the_cpu(open_plan, artifact_of, precision, least):
    folder = artifact_of("fp32")
    expected = greedy_texts(OrtRunner(folder, 4, 1), folder)
    found = greedy_texts(open_plan(precision), folder)
    equal = [one == other for one, other in zip(found, expected, strict=True)]
    assert sum(equal) / len(equal) >= least


def test_prompt_longer_than_the_plans_chunk_enters_in_pieces(open_plan, ids):
    runner = open_plan()
    whole = prefill(runner, 0, ids, chunk=64)
    np.testing.assert_allclose(whole, prefill(runner, 1, ids, chunk=16), atol=1e-6)


def test_replayed_steps_read_the_tokens_and_lengths_of_now(open_plan, ids):
    runner = open_plan()
    expected = prefill(runner, 0, ids)
    for slot in (1, 2):
        prefill(runner, slot, ids[: 10 * slot])
    for index in range(6):
        lengths = [10 + index, 20 + index]
        found = decode(runner, 1, ids[lengths], lengths, [0, 1])
        np.testing.assert_allclose(found, expected[lengths], atol=1e-5)
    assert len(runner._decode._captured) == 1


def test_slots_that_join_and_leave_need_few_recordings(open_plan, ids):
    runner = open_plan()
    expected = prefill(runner, 3, ids[:8])
    for slot in range(3):
        prefill(runner, slot, ids[:7])
    for first, count in [(0, 3), (0, 2), (1, 2), (0, 3), (2, 1), (1, 2)]:
        found = decode(runner, first, [ids[7]] * count, [7] * count, range(count))
        np.testing.assert_allclose(found, expected[[7] * count], atol=1e-5)
    assert len(runner._decode._captured) == 4


def test_rows_that_die_and_live_share_a_recording(open_plan, ids):
    runner = open_plan()
    expected = prefill(runner, 0, ids[:8])
    for slot in range(3):
        prefill(runner, slot, ids[:7])
    for live in ([0, 1, 2], [0, 2], [2], [1, 0]):
        found = decode(runner, 0, [ids[7]] * 3, [7] * 3, live)
        np.testing.assert_allclose(found, expected[[7] * len(live)], atol=1e-5)
    assert len(runner._decode._captured) == 1


def test_recordings_are_bounded_and_still_right(checkpoint, tmp_path, ids):
    write_plan_version(checkpoint, tmp_path, "fp32", max_batch=12)
    runner = TrtRunner(tmp_path, 12)
    expected = prefill(runner, 0, ids[:4])
    for slot in range(1, 12):
        prefill(runner, slot, ids[:3])
    for first, last in [*itertools.combinations_with_replacement(range(12), 2), (0, 0), (0, 11)]:
        count = last - first + 1
        found = decode(runner, first, [ids[3]] * count, [3] * count, range(count))
        np.testing.assert_allclose(found, expected[[3] * count], atol=1e-5)
    assert len(runner._decode._captured) == MAX_CAPTURED
    runner.close()


@only_stand_in
def test_plan_that_cannot_be_recorded_is_launched_kernel_by_kernel(
    open_plan, cuda, ids, monkeypatch, capsys
):
    refusal = cuda.cudaError_t.cudaErrorStreamCaptureUnsupported
    monkeypatch.setattr(cuda, "cudaStreamEndCapture", lambda stream: end(cuda, stream, refusal))
    runner = open_plan()
    expected = prefill(runner, 0, ids[:8])
    prefill(runner, 1, ids[:5])
    for length in (5, 6, 7):
        found = decode(runner, 1, [ids[length]], [length], [0])
        np.testing.assert_allclose(found, expected[[length]], atol=1e-5)
    assert capsys.readouterr().err.count("steps can't be recorded") == 1


def end(cuda, stream, refusal):
    """End a recording and refuse it."""
    cuda.GPU.streams[int(stream)].captured = None
    return refusal, None


def test_half_the_precision_takes_half_the_memory(open_plan):
    assert open_plan("fp32").cache_bytes == 2 * open_plan("fp16").cache_bytes


def test_memory_decides_the_number_of_slots(open_plan):
    slot_bytes = open_plan(max_slots=1).cache_bytes
    assert open_plan(cache_bytes=3 * slot_bytes - 1).num_slots == 2
    with pytest.raises(RunnerError, match=f"kv_cache_bytes is 99, one KV slot .* {slot_bytes}"):
        open_plan(cache_bytes=99)


def test_more_slots_than_the_plan_was_built_for_are_not_opened(open_plan):
    assert open_plan(max_slots=32).num_slots == 4


@only_stand_in
def test_closed_runner_leaves_no_memory_behind(artifact_of, cuda, ids):
    runner = TrtRunner(artifact_of("trt-fp16"), 4)
    prefill(runner, 0, ids)
    assert cuda.GPU.allocations
    runner.close()
    assert not cuda.GPU.allocations


@only_stand_in
def test_step_that_fails_on_the_gpu_loses_the_device(artifact_of, cuda, ids):
    runner = TrtRunner(artifact_of("trt-fp16"), 4)
    cuda.cudaFree(runner._memory.address(0, 0, 0))
    with pytest.raises(DeviceLost, match=r"CUDA failed in .*IllegalAddress .*a new process"):
        prefill(runner, 0, ids[:5])


@only_stand_in
def test_gpu_without_memory_is_told_with_the_mend(checkpoint, tmp_path):
    write_plan_version(checkpoint, tmp_path, "fp16", max_batch=10**6)
    with pytest.raises(RunnerError, match=r"no \d+ MB left: lower max_slots or kv_cache_bytes"):
        TrtRunner(tmp_path, 10**6)


def test_version_of_another_runner_is_refused(artifact_of):
    with pytest.raises(RunnerError, match="exported for the runner 'ort', this one is 'trt'"):
        TrtRunner(artifact_of("fp32"), 4)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda plan: b"vtrt" + plan[4:], "is a plan of TensorRT-RTX"),
        (lambda plan: b"ONNX" + plan[4:], "is no TensorRT plan"),
        (lambda plan: plan[:5], "is no TensorRT plan"),
        (lambda plan: plan[:-5], r"TensorRT 10.* can't open .*model.plan: .*Serialization"),
        (lambda plan: plan[:0x18] + b"\x09" + plan[0x19:], r"built by TensorRT 9\.15"),
    ],
    ids=["rtx", "other file", "cut header", "cut", "version"],
)
def test_plan_that_cannot_run_here_is_refused_in_one_line(changed_plan, edit, words):
    with pytest.raises(RunnerError, match=words) as refused:
        TrtRunner(changed_plan(edit), 4)
    assert "\n" not in str(refused.value)


def test_plan_for_another_gpu_is_refused(changed_plan, artifact_of):
    target = Manifest.load(artifact_of("trt-fp16")).plan
    other = dataclasses.replace(target, compute_capability="75")
    with pytest.raises(RunnerError, match=r"built for SM 75, this GPU is SM \d+"):
        TrtRunner(changed_plan(plan=other), 4)


@pytest.mark.parametrize(
    "fields",
    [{"kv_dtype": "float32"}, {"num_heads": 4}, {"vocab_size": 284}, {"context": 4096}],
    ids=str,
)
def test_plan_that_is_not_the_manifests_is_refused(changed_plan, fields):
    with pytest.raises(RunnerError, match="the plan has heads, head dimension"):
        TrtRunner(changed_plan(**fields), 4)
