"""The page on authentication: each of its site files is one that the adapter takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fhir_adapter.site import load_site

PAGE = Path(__file__).resolve().parents[2] / "docs" / "authentication.md"
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("text", EXAMPLES, ids=lambda text: text.split("\n")[0])
def test_each_example_is_a_site_file(text: str, tmp_path: Path) -> None:
    """An example can be copied as it stands."""
    (tmp_path / "site.yaml").write_text(text, encoding="utf-8")
    assert load_site(tmp_path / "site.yaml").source.kind == "rest"


def test_every_kind_has_its_example(tmp_path: Path) -> None:
    """There is an example of each method, of TLS and of proxies."""
    kinds = {kind for text in EXAMPLES for kind in re.findall(r"\bkind: ([a-z-]+)", text)}
    assert {"smart-backend", "client-credentials", "bearer", "basic"} <= kinds
    assert {"tls", "proxy"} <= {name for text in EXAMPLES for name in re.findall(r"(?m)^([a-z_]+):", text)}
