"""The fixtures of `tests/conftest.py` show what they promise to the tests that use them."""

from __future__ import annotations

import subprocess

import pytest


@pytest.mark.hapi
def test_hapi_takes_resources_in_any_order(hapi) -> None:  # type: ignore[no-untyped-def]
    """Resources are put under their own ids, whatever order they come in, and found again by search."""
    patient = {"resourceType": "Patient", "id": "fixture-p", "active": True}
    observations = [
        {
            "resourceType": "Observation",
            "id": f"fixture-o{number}",
            "status": "final",
            "code": {"text": "synthetic"},
            "subject": {"reference": "Patient/fixture-p"},
        }
        for number in range(3)
    ]

    hapi.load([*observations, patient])

    assert hapi.get("Patient/fixture-p")["active"] is True
    found = hapi.search("Observation?subject=Patient/fixture-p&_count=2")
    assert ["fixture-o0", "fixture-o1", "fixture-o2"] == sorted(item["id"] for item in found)
    assert hapi.count("Observation?subject=Patient/fixture-p") == 3


@pytest.mark.hapi
def test_hapi_keeps_references_whole(hapi) -> None:  # type: ignore[no-untyped-def]
    """A resource that another refers to cannot be deleted (409); the one that refers to it can (200)."""
    hapi.load(
        [
            {"resourceType": "Patient", "id": "fixture-q"},
            {
                "resourceType": "Observation",
                "id": "fixture-r",
                "status": "final",
                "code": {"text": "synthetic"},
                "subject": {"reference": "Patient/fixture-q"},
            },
        ]
    )

    assert hapi.delete("Patient/fixture-q") == 409
    assert hapi.delete("Observation/fixture-r") == 200
    assert hapi.delete("Patient/fixture-q") == 200


@pytest.mark.browser
def test_the_browser_is_a_chromium(chromium: str) -> None:
    """The path leads to a program that calls itself Chromium or Chrome."""
    done = subprocess.run([chromium, "--version"], capture_output=True, text=True, check=True)

    assert "Chrom" in done.stdout
