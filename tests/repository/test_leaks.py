"""The search for planted secrets and identifiers finds them, and fails the run."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

PLUGIN = Path(__file__).resolve().parent.parent / "leaks.py"
CONFTEST = f"""
import importlib.util
spec = importlib.util.spec_from_file_location("leaks", {str(PLUGIN)!r})
leaks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(leaks)

def pytest_configure(config):
    config.pluginmanager.register(leaks.LeakSearch(config), "leaks")
"""
# The mark is written in two parts, so that this file holds none.
HEAD = """
import base64, logging, subprocess, sys
from fhir_adapter.errors import SourceRefused
mark = "zq" + "canary"
"""
LEAKS = {
    "stderr": ("print(mark, file=sys.stderr)", "Captured stderr call"),
    "log": ("logging.getLogger('x').warning(mark)", "Captured log call"),
    "capsys": ("print(mark.upper()); capsys.readouterr()", "stdout of a command"),
    "process": (
        "subprocess.run([sys.executable, '-c', f'print({mark!r})'], capture_output=True)",
        "stdout of a command",
    ),
    "birth": ("SourceRefused('born 1887' + '-01-02')", "an error message"),
    "base64": (
        "(tmp_path / 'manifest.json').write_bytes(base64.b64encode(b'u:' + mark.encode()))",
        "a file",
    ),
    "key": ("(tmp_path / 'a.log').write_text('-----BEGIN' + ' RSA PRIVATE KEY-----')", "a file"),
    "jwt": ("(tmp_path / 'metrics.prom').write_text('eyJ' + 'x' * 30 + '.eyJy.z')", "a file"),
    "report": (
        "(tmp_path / 'manifest.json').touch(); (tmp_path / 'report.html').write_text(mark)",
        "a file",
    ),
    "name": ("(tmp_path / 'manifest.json').touch(); (tmp_path / mark).touch()", "a file name"),
}
FINE = (
    "(tmp_path / 'in.ndjson').write_text(mark); run = tmp_path / 'run'; (run / 'quarantine').mkdir(parents=True); "
    "(run / 'manifest.json').touch(); (run / 'quarantine' / 'x').write_text(mark)"
)


def outcome(bodies: dict[str, str], *options: str) -> tuple[int, str]:
    """A test run of its own, of tests that pass by themselves: exit status, and what the search says of it."""
    tests = "".join(f"\ndef test_{name}(tmp_path, capsys):\n    {body}\n" for name, body in bodies.items())
    # Not in `tmp_path`, where the search of this run would find what that one has to find.
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "conftest.py").write_text(CONFTEST)
        (Path(folder) / "test_planted.py").write_text(HEAD + tests)
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "--rootdir",
            folder,
            *options,
        ]
        with subprocess.Popen(
            [*command, "--basetemp", f"{folder}/base", folder], stdout=subprocess.PIPE, text=True
        ) as run:
            assert run.stdout is not None
            said = run.stdout.read()
    return run.returncode, said.replace("zq" + "canary", "MARK").replace("ZQ" + "CANARY", "MARK")


def test_each_way_out_is_watched() -> None:
    """A mark in a log, output, error, manifest, metric, report or file name fails a run whose tests all pass."""
    each_is_found()


def test_each_way_out_is_watched_by_several_processes() -> None:
    """The same where several processes share the tests, as `make test` has it."""
    each_is_found("-n", "2")


def each_is_found(*options: str) -> None:
    """Plants a mark in each way out."""
    status, said = outcome({name: body for name, (body, _) in LEAKS.items()}, *options)
    assert status == 1, said
    assert f"{len(LEAKS)} passed" in said
    missed = [
        name
        for name, (_, what) in LEAKS.items()
        if not any(f"in {what} (" in line and f"test_{name}" in line for line in said.splitlines())
    ]
    assert missed == []


def test_where_patient_data_belong_nothing_is_searched() -> None:
    """Quarantine and a test's own input may hold what was planted; the run passes and says what was searched."""
    status, said = outcome({"fine": FINE})
    assert status == 0, said
    assert "none found" in said
