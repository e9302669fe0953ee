"""A server that fails by a seed: what landed is what it has, or the pull says that it is not."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from werkzeug import Request, Response

from fhir_adapter.errors import SourceNotFhir, SourceUnreachable

FAULTS = ["429", "500", "503", "cut", "short", "expired", "twice", "none"]
WEIGHTS = [3, 3, 3, 3, 3, 2, 8, 75]


def misbehave(stub: Any, seed: int) -> Callable[[Request], Response | None]:
    """Faults by a seed: refused, cut, broken off, expired, and repeated entries."""
    chance = random.Random(seed)

    def before(request: Request) -> Response | None:
        fault = chance.choices(FAULTS, WEIGHTS)[0]
        if fault.isdecimal():
            return Response("", int(fault), {"Retry-After": "7"})
        if fault == "expired" and "start" in request.args:
            return Response('{"resourceType":"OperationOutcome"}', 410)
        parts = request.path.removeprefix("/fhir/").split("/")
        if fault in {"cut", "short", "twice"} and len(parts) == 1 and parts != ["metadata"]:
            body = stub.search(request, parts[0]).get_data(as_text=True)
            if fault == "cut":
                return Response(body[: len(body) // 2], content_type="application/fhir+json")
            if fault == "short":
                return Response(iter([b"{"]), headers={"Content-Length": "99", "Connection": "close"})
            bundle = json.loads(body)
            bundle["entry"] = [entry for entry in bundle.get("entry", []) for _ in range(2)]
            return Response(json.dumps(bundle), content_type="application/fhir+json")
        return None

    return before


@pytest.mark.parametrize("seed", range(10))
def test_what_landed_is_what_the_server_has(stub: Any, run: Any, landed: Any, seed: int) -> None:
    """However often a pull fails, the one that succeeds has everything, once, and deleted nothing."""
    stub.enrol("a", "b", "c")
    for number in range(9):
        stub.observe(f"o{number}", "abc"[number % 3])
    stub.before = misbehave(stub, seed)
    for _ in range(50):
        try:
            report = run(concurrency=1, retry={"attempts": 3, "max_wait_s": 0, "timeout_s": 5})
        except (SourceUnreachable, SourceNotFhir):
            continue
        break
    else:
        pytest.fail("no pull succeeded")
    assert landed() == sorted(f"{type_}/{id_}" for type_, id_ in stub.resources)
    assert report.after == len(stub.resources)
