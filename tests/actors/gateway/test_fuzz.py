"""Generated and malformed requests: every answer matches the OpenAPI document and none is a 5xx.

`EMOTIVETALK_FUZZ_EXAMPLES=100` sends about 7,000 requests here, and 20,000 in `tests/actors/grpc/test_malformed.py`.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.actors.fake_backend import FakeDirector
from tests.actors.gateway.conftest import client_of, create, files, start
from tests.actors.gateway.serving import TOKEN, Serving
from tests.processes import wait_until

EXAMPLES = int(os.environ.get("EMOTIVETALK_FUZZ_EXAMPLES", "3"))
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
AUTHORIZED = {"authorization": f"Bearer {TOKEN}"}
SETTINGS = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=EXAMPLES < 100,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Serving, str]]:
    """A service and the id of a finished video, which no request deletes."""
    server = start(tmp_path_factory.mktemp("fuzzed") / "service", playlist_wait_s=0.01)
    director = FakeDirector(server.serving.jobs, server.serving.artifacts)
    director.start()
    with client_of(server.serving) as client:
        video = create(client)["id"]
        wait_until(lambda: client.get(f"/v1/videos/{video}").json()["status"] == "completed")
    yield server.serving, video
    director.stop()
    server.stop()


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_requests_generated_from_the_openapi_document(fuzzed: tuple[Serving, str], mode: GenerationMode) -> None:
    serving, video = fuzzed
    schema = schemathesis.openapi.from_url(f"{serving.url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    assert len(operations) == 31
    for operation in operations:

        @SETTINGS
        @given(case=operation.as_strategy(generation_mode=mode), exists=st.booleans())
        def probe(case: schemathesis.Case, exists: bool) -> None:
            if exists and "video_id" in case.path_parameters and case.method != "DELETE":
                case.path_parameters["video_id"] = video
            answer = case.call(base_url=serving.url, headers=AUTHORIZED, timeout=20)
            case.validate_response(answer, checks=CHECKS)

        has_input = bool(operation.body) or any(True for _ in operation.iter_parameters())
        if has_input or mode is GenerationMode.POSITIVE:
            probe()
        else:  # a request without parameters cannot be malformed
            with pytest.raises(Unsatisfiable):
                probe()
    assert list((serving.folder / "uploads").iterdir()) == []


def test_mutated_forms(fuzzed: tuple[Serving, str]) -> None:
    serving, _ = fuzzed
    request = httpx.Request("POST", serving.url, files=files(), data={"emotion": "happy:0.5", "seed": "1"})
    whole, kind = request.read(), request.headers["content-type"]
    chance = random.Random(0)
    with client_of(serving) as client:
        for _ in range(20 * EXAMPLES):
            body = mutated(whole, chance)
            answer = client.post("/v1/videos", content=body, headers={"content-type": kind})
            assert answer.status_code in (200, 400, 409, 413, 429), (answer.status_code, body)
        before = resident_bytes()
        for _ in range(20 * EXAMPLES):
            body = mutated(whole, chance)
            assert client.post("/v1/videos", content=body, headers={"content-type": kind}).status_code < 500
        assert resident_bytes() < before + 30_000_000
    assert list((serving.folder / "uploads").iterdir()) == []


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Overwrite, delete, insert, repeat or cut off some bytes."""
    result = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(result) + 1)
        length = chance.choice((1, 1, 2, 8, 60))
        match chance.randrange(5):
            case 0:
                result[at : at + length] = chance.randbytes(length)
            case 1:
                del result[at : at + length]
            case 2:
                result[at:at] = chance.choice((b"\r\n", b"--", b"\x00", b"\xff", b"[", b'"', chance.randbytes(length)))
            case 3:
                result[at:at] = result[at : at + 60]
            case 4:
                del result[max(1, at) :]
    return bytes(result)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
