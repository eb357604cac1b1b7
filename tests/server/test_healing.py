"""Prompts that end inside a token, through a real server: both doors and the bare engine model."""

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from running import ROOT, RunningServer

from nanotriton.tokenizer import load_tokenizer

TOKENIZER = load_tokenizer(ROOT / "demo")


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize(
    ("prompt", "suffix"),
    [("import os\nimport num", None), ("x = '→é", None), ("def area(r):\n    retu", "\n\n\n")],
    ids=["word", "characters of several bytes", "hole"],
)
def test_both_doors_go_on_from_the_middle_of_a_word(
    server: RunningServer, protocol: str, prompt: str, suffix: str | None
) -> None:
    asked = {"max_tokens": 12, "suffix": suffix, "token_healing": True, "stop": ["\n\n"]}
    with server.client(protocol) as client:
        whole = client.complete(prompt, **asked)
        with client.stream(prompt, **asked) as stream:
            chunks = list(stream)

    assert "".join(chunk.text for chunk in chunks) == whole.text != ""
    assert chunks[-1].prompt_tokens == whole.prompt_tokens
    assert chunks[-1].completion_tokens == whole.completion_tokens


def test_healed_word_is_one_that_the_model_knows(server: RunningServer) -> None:
    with server.client() as client:
        text = client.complete("import os\nimport num", max_tokens=8, token_healing=True).text
        several = client.complete(
            "import os\nimport num", max_tokens=8, token_healing=True, n=3, temperature=0.5, seed=1
        )

    assert text.startswith(("py", "bers"))
    assert len(several.texts) == 3


def test_bare_engine_model_tells_which_bytes_end_the_prompt(server: RunningServer) -> None:
    prompt = "import os\nimport num"
    client = triton_grpc.InferenceServerClient(f"localhost:{server.grpc_port}")
    ids = np.array([TOKENIZER.encode(prompt)], np.int32)
    columns = {
        "input_ids": ("INT32", ids),
        "max_tokens": ("INT32", np.array([[6]], np.int32)),
        "token_healing": ("BOOL", np.array([[True]])),
    }
    inputs = []
    for name, (datatype, values) in columns.items():
        inputs.append(triton_grpc.InferInput(name, values.shape, datatype))
        inputs[-1].set_data_from_numpy(values)
    answer = client.infer("gpt", inputs)
    client.close()

    written = b"".join(TOKENIZER.table[one] for one in answer.as_numpy("output_ids")[0])
    healed = int(answer.as_numpy("healed_bytes")[0, 0])
    assert healed > 0
    assert prompt.encode().endswith(written[:healed])
    with server.client() as twin:
        text = twin.complete(prompt, max_tokens=6, token_healing=True).text
    assert written[healed:].decode() == text
