"""The wheel: what it carries, and that the demonstration runs from it alone."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout with the build backend that is installed."""
    out = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(out),
        str(REPOSITORY),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


def _relative(folder: str) -> set[str]:
    return {
        str(path.relative_to(REPOSITORY))
        for path in (REPOSITORY / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.parametrize("folder", ["mappings", "templates"])
def test_the_wheel_carries_the_assets(folder: str, wheel: Path) -> None:
    """Every file of mappings/ and templates/ is in the wheel, beside the package."""
    names = set(zipfile.ZipFile(wheel).namelist())

    assert _relative(folder)
    assert {f"fhir_adapter/_assets/{name}" for name in _relative(folder)} - names == set()


def test_the_wheel_carries_the_package_and_nothing_else(wheel: Path) -> None:
    """Every file of the package is in the wheel, typed and licensed; no tests, no scripts."""
    names = set(zipfile.ZipFile(wheel).namelist())

    assert _relative("fhir_adapter") - names == set()
    assert "fhir_adapter/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"fhir_adapter"}


def test_the_demo_runs_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    """Unpacked where no checkout is near, the package runs its demonstration and writes a report."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); "
        "import fhir_adapter; print(fhir_adapter.__file__, file=sys.stderr); "
        "from fhir_adapter.cli import main; sys.argv = ['fhir-adapter', 'demo', '--out', 'out']; main()"
    )
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode in (0, 3), done.stderr
    assert str(tmp_path / "site" / "fhir_adapter" / "__init__.py") in done.stderr
    assert Path(done.stdout.splitlines()[0]).name == "report.html"
    assert len(list((tmp_path / "out").rglob("report.html"))) == 1
