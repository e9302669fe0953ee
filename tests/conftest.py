"""Fixtures of every test: a real HAPI FHIR server and a real browser.

With `CI` set, a missing server or browser is a failure. Elsewhere the tests that need it are skipped, and the
end of the test session says so in so many words.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import requests

REPOSITORY = Path(__file__).resolve().parent.parent
_LACKING = pytest.StashKey[set[str]]()
_CHUNK = 400

# The same examples each time: what is new is looked for by `make soak`, with HYPOTHESIS_PROFILE=search.
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None)
hypothesis.settings.register_profile("search", deadline=None, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class Hapi:
    """A HAPI FHIR server with an in-memory database, shared by the whole session: use ids of your own.

    Attributes:
        base: FHIR base URL, without a slash at its end.
    """

    def __init__(self, base: str) -> None:
        self.base = base
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy has no part in talking to the loopback interface
        # A search answer that HAPI remembers would not show what was just written.
        self._session.headers.update({"Accept": "application/fhir+json", "Cache-Control": "no-cache"})

    def load(self, resources: Sequence[Mapping[str, Any]]) -> None:
        """Puts resources under their own ids, in transactions, the referenced before the referring."""
        ordered = _references_first(resources)
        for start in range(0, len(ordered), _CHUNK):
            entries = [
                {
                    "resource": item,
                    "request": {"method": "PUT", "url": f"{item['resourceType']}/{item['id']}"},
                }
                for item in ordered[start : start + _CHUNK]
            ]
            bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
            answer = self._session.post(self.base, json=bundle, timeout=300)
            assert answer.status_code == 200, answer.text[:2000]

    def get(self, path: str) -> Any:
        """The JSON of a path below the base, for example `Patient/x` or `Observation?subject=Patient/x`."""
        answer = self._session.get(f"{self.base}/{path}", timeout=120)
        assert answer.status_code == 200, f"{answer.status_code} {answer.text[:2000]}"
        return answer.json()

    def search(self, path: str) -> list[dict[str, Any]]:
        """Every match of a search, over all pages."""
        found: list[dict[str, Any]] = []
        bundle = self.get(path)
        while True:
            found += [entry["resource"] for entry in bundle.get("entry", [])]
            following = next(
                (link["url"] for link in bundle.get("link", []) if link["relation"] == "next"), None
            )
            if following is None:
                return found
            answer = self._session.get(following, timeout=120)
            assert answer.status_code == 200, answer.text[:2000]
            bundle = answer.json()

    def count(self, path: str) -> int:
        """How many resources match a search, for example `Observation` or `Binary?_tag=x`."""
        separator = "&" if "?" in path else "?"
        return int(self.get(f"{path}{separator}_summary=count")["total"])

    def delete(self, path: str) -> int:
        """Deletes a resource; the status of the answer (200, or 409 where something still refers to it)."""
        return self._session.delete(f"{self.base}/{path}", timeout=120).status_code

    def close(self) -> None:
        """Gives the connections back."""
        self._session.close()


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key == "reference" and isinstance(item, str):
                yield item
            else:
                yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def _references_first(resources: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Orders resources so that what one refers to comes before it, as referential integrity asks."""
    by_key = {f"{item['resourceType']}/{item['id']}": item for item in resources}
    ordered: list[Mapping[str, Any]] = []
    seen: set[str] = set()

    def visit(key: str) -> None:
        if key in seen or key not in by_key:
            return
        seen.add(key)
        for reference in _references(by_key[key]):
            visit(reference)
        ordered.append(by_key[key])

    for key in by_key:
        visit(key)
    return ordered


def _launcher() -> Any:
    """The module `docker/hapi/start.py`; it is a script, not part of the package."""
    specification = importlib.util.spec_from_file_location("hapi_start", REPOSITORY / "docker/hapi/start.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


def _lacks(request: pytest.FixtureRequest, what: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"CI is set and there is {what}", pytrace=False)
    request.config.stash.setdefault(_LACKING, set()).add(what)
    pytest.skip(what)


def _serve(request: pytest.FixtureRequest, release: str) -> Iterator[Hapi]:
    launcher = _launcher()
    if missing := launcher.missing_tools():
        _lacks(request, f"no HAPI FHIR server: {', '.join(missing)} not on the path")
    try:
        server = launcher.Server(release=release).__enter__()
    except launcher.HapiError as error:
        _lacks(request, f"no HAPI FHIR server: {error}")
    client = Hapi(server.base)
    try:
        yield client
    finally:
        client.close()
        server.stop()


@pytest.fixture(scope="session")
def hapi(request: pytest.FixtureRequest) -> Iterator[Hapi]:
    """A real HAPI FHIR R4 server on a free port of the loopback interface; it ends with the session."""
    yield from _serve(request, "r4")


@pytest.fixture(scope="session")
def hapi_r5(request: pytest.FixtureRequest) -> Iterator[Hapi]:
    """The same for R5; it takes as long to start, so it is asked for by few tests."""
    yield from _serve(request, "r5")


@pytest.fixture(scope="session")
def chromium(request: pytest.FixtureRequest) -> str:
    """Path of Chromium, for playwright's `executable_path`."""
    path = next((found for name in _BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        _lacks(request, "no browser: Chromium is not on the path")
    assert path is not None
    return path


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The writing process is waited for and used for batches of any size, not for large ones once it is there."""
    from fhir_adapter.landing.process import WritingProcess

    ready = WritingProcess.ready
    monkeypatch.setattr("fhir_adapter.landing.appender.MANY", 1)
    monkeypatch.setattr(WritingProcess, "ready", lambda process: ready(process, 60))


def _sibling(name: str) -> Any:
    """A module beside this file; the tests are no package."""
    specification = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def pytest_configure(config: pytest.Config) -> None:
    """Has the whole run searched for what tests plant."""
    config.pluginmanager.register(_sibling("leaks").LeakSearch(config), "leaks")


def _shares(nodeid: str) -> str:
    """What a test shares with others: the server, which takes a while to start, or the fixtures of its file."""
    return "hapi" if "hapi" in nodeid else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keeps what is shared in one process, where several run the tests."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        """Tests by what they share."""

        def _split_scope(self, nodeid: str) -> str:
            return _shares(nodeid)

    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Has the tests of the server begin: they take longest, and others fill the time beside them."""
    items.sort(key=lambda item: _shares(item.nodeid) != "hapi")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Has the first of several processes know what this one lacked."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["lacking"] = sorted(session.config.stash.get(_LACKING, set()))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Takes over what another process of the test run lacked."""
    lacking = set(getattr(node, "workeroutput", {}).get("lacking", ()))
    if lacking:
        node.config.stash.setdefault(_LACKING, set()).update(lacking)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Says at the end, in so many words, what could not be shown on this machine."""
    lacking = config.stash.get(_LACKING, None)
    if lacking:
        terminalreporter.section("NOT SHOWN ON THIS MACHINE", sep="*", red=True, bold=True)
        for what in sorted(lacking):
            terminalreporter.line(f"{what} (`make doctor` says what to install)")
