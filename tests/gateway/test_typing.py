"""People who type, and versions that share them: a real gateway in front of a real Triton."""

import threading

import httpx
import pytest
from running import RunningServer, free_ports, wait_until

from tests.gateway.gateways import RunningGateway, running_gateway

PROMPT = "def mean(values):\n    total = "


def text_of(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    return str(response.json()["choices"][0]["text"])


def how(response: httpx.Response) -> str | None:
    return response.headers.get("x-nanotriton-cache")


def test_newer_request_of_the_session_ends_the_older_one(gateway: RunningGateway):
    older: list[httpx.Response] = []
    body = {"max_tokens": 400, "temperature": 1, "ignore_eos": True, "session": "ann"}
    thread = threading.Thread(target=lambda: older.append(gateway.complete(**body)))
    thread.start()
    newer = []
    while not older:  # the older one may not have begun yet
        newer.append(gateway.complete(session="ann").status_code)
    thread.join()

    assert set(newer) == {200}
    assert older[0].status_code == 409
    assert older[0].json()["error"]["type"] == "superseded"


def test_same_request_is_answered_from_the_cache(gateway: RunningGateway):
    prompt = f"{PROMPT}  # asked twice"
    body = {"prompt": prompt, "max_tokens": 16, "seed": 5, "temperature": 0.7}
    first, second = gateway.complete(**body), gateway.complete(**body)

    assert (how(first), how(second)) == (None, "cached")
    assert second.json()["choices"] == first.json()["choices"]
    paid, free = first.json()["usage"], second.json()["usage"]
    assert paid["cost"] > free["cost"] == 0
    assert paid | {"cost": 0} == free


def test_typing_along_a_suggestion_is_answered_without_the_engine(gateway: RunningGateway):
    body = {"max_tokens": 17, "temperature": 0}
    suggested = text_of(gateway.complete(prompt=PROMPT, **body))
    typed = gateway.complete(prompt=PROMPT + suggested[:3], **body)
    otherwise = gateway.complete(prompt=PROMPT + "~", **body)

    assert (how(typed), text_of(typed)) == ("typeahead", suggested[3:])
    assert how(otherwise) is None


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_backend_that_is_gone_is_gone_round(server: RunningServer, tmp_path, stream):
    (nobody,) = free_ports(1)
    words = ["--open", "--backend", f"gone=127.0.0.1:{nobody}"]
    with running_gateway(server, tmp_path, *words) as gateway:
        answers = [gateway.complete(user=f"{index}", stream=stream) for index in range(8)]

    assert {one.status_code for one in answers} == {200}


def test_version_is_told_once_the_backend_told_it(gateway: RunningGateway):
    wait_until(lambda: gateway.complete().headers["x-model-version"] == "1", 20)

    assert gateway.complete(model="nanotriton@1").status_code == 200
    assert gateway.complete(model="nanotriton@2").status_code == 404
