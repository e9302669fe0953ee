"""What the repository's files hold and do not hold: pins, hashes, paths, hosts, Dockerfiles, targets."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
REQUIREMENTS = sorted((REPOSITORY / "requirements").glob("*.txt"))
TARGETS = ("doctor", "install", "demo", "demo-hapi", "test", "soak", "lint", "bench", "docs")
#: Written so that this file does not hold what it looks for.
_MACHINE_PATH = re.compile(r"(^|[^\w.<-])/(?:" + "|".join(["work", "root", "home"]) + r")/[\w.]")
_REGISTRY = re.compile(
    "|".join(
        [
            r"(?<!no-emit-)(?:index" + "-url|find" + "-links)",
            "extra-" + "index",
            "/sim" + "ple/",
            "/mav" + "en2/",
        ]
    )
)
_PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)==(\S+) \\$")


def _tracked() -> list[Path]:
    """Text files that belong to the repository, with git or, in an unpacked archive, without."""
    if (REPOSITORY / ".git").exists() and shutil.which("git"):
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=REPOSITORY, capture_output=True, check=True,
        ).stdout  # fmt: skip
        paths = [REPOSITORY / name.decode() for name in listed.split(b"\0") if name]
    else:
        outside = {".venv", ".hapi", "demo-out", "runs", "state", "build", "dist", "__pycache__"}
        paths = [
            path
            for path in REPOSITORY.rglob("*")
            if not outside & set(path.parts) and "_cache" not in str(path)
        ]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:8192]]


def _pins(path: Path) -> dict[str, str]:
    return {found[1]: found[2] for line in path.read_text().splitlines() if (found := _PIN.match(line))}


@pytest.mark.parametrize("pattern", [_MACHINE_PATH, _REGISTRY], ids=["machine paths", "package hosts"])
def test_no_file_names_a_machine_or_a_package_host(pattern: re.Pattern[str]) -> None:
    """No file holds a path of somebody's machine or the address of a package index."""
    hits = [
        f"{path.relative_to(REPOSITORY)}:{number}"
        for path in _tracked()
        if path.suffix != ".svg"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]

    assert hits == []


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.name)
def test_requirements_are_pinned_with_hashes_and_without_addresses(path: Path) -> None:
    """Each requirement has one version and at least one SHA-256, and no line names where to get it."""
    text = path.read_text()
    entries = re.split(r"\n(?=\S)", re.sub(r"(?m)^\s*#.*\n", "", text).strip())

    assert entries
    for entry in entries:
        assert _PIN.match(entry.splitlines()[0]), entry.splitlines()[0]
        assert "--hash=sha256:" in entry
    assert "://" not in text


@pytest.mark.parametrize("name", ["base.txt", "build.txt"])
def test_development_uses_the_versions_of_a_run(name: str) -> None:
    """What dev.txt installs is what base.txt and build.txt install, and more."""
    development = _pins(REPOSITORY / "requirements/dev.txt")

    assert _pins(REPOSITORY / "requirements" / name).items() <= development.items()


@pytest.mark.parametrize("target", TARGETS)
def test_make_has_the_target(target: str) -> None:
    """Each target of the plan exists and says in `make help` what it does."""
    done = subprocess.run(["make", "-s", "help"], cwd=REPOSITORY, capture_output=True, text=True, check=True)

    assert re.search(rf"^{target}\s+\S", done.stdout, re.MULTILINE)


def test_ci_calls_the_test_target_and_nothing_else() -> None:
    """`.ci/run` is executable and runs `make test`."""
    path = REPOSITORY / ".ci/run"
    commands = [
        line for line in path.read_text().splitlines() if line and not line.startswith(("#", "set ", "cd "))
    ]

    assert commands == ["exec make test"]
    assert path.stat().st_mode & 0o111 == 0o111


def test_the_dockerfile_has_no_finding() -> None:
    """The linter of Dockerfiles, hadolint, finds nothing to say."""
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [hadolint, "docker/Dockerfile"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_image_runs_as_nobody_in_particular() -> None:
    """The image names a user that is not root; compose mounts its file system read-only, without rights."""
    dockerfile = (REPOSITORY / "docker/Dockerfile").read_text()
    compose = (REPOSITORY / "docker/compose.yaml").read_text()

    assert [line for line in dockerfile.splitlines() if line.startswith("USER ")] == ["USER 10001:10001"]
    for setting in ("read_only: true", "cap_drop: [ALL]", "no-new-privileges:true"):
        assert setting in compose
