"""References of every form, and merged patients."""

from __future__ import annotations

import pytest

from fhir_adapter.errors import SourceNotFhir
from fhir_adapter.mapping.references import Head, contained, key_of, survivors
from fhir_adapter.mapping.which_count import Verdict, decode_head


@pytest.mark.parametrize(
    ("reference", "key"),
    [
        ("Patient/x", "Patient/x"),
        ("Patient/x/_history/3", "Patient/x"),
        ("https://server/fhir/Patient/x", "Patient/x"),
        ("https://server/fhir/Patient/x/_history/3", "Patient/x"),
        ("urn:uuid:5f2c1a40-0000-4000-8000-000000000001", "/5f2c1a40-0000-4000-8000-000000000001"),
        ("#x", None),
        ("Patient?identifier=x", None),
        ("", None),
        (None, None),
    ],
)
def test_key(reference: str | None, key: str | None):
    """Relative, absolute, versioned and urn references become one key; others have none."""
    assert key_of(reference) == key


def test_contained():
    """The local id of a contained resource."""
    assert (contained("#m"), contained("Medication/m"), contained("#"), contained(None)) == (
        "m",
        None,
        None,
        None,
    )


def head(id_: str, **links: str) -> Head:
    """A Patient with links."""
    items = [
        f'{{"other": {{"reference": "Patient/{other}"}}, "type": "{kind.replace("_", "-")}"}}'
        for kind, other in links.items()
    ]
    found = decode_head(
        f'{{"resourceType": "Patient", "id": "{id_}", "link": [{", ".join(items)}]}}'.encode()
    )
    assert isinstance(found, Head)
    return found


def test_merged_patients_fold_into_the_last_survivor():
    """A was replaced by b, b by c; c says so of d; a mere `seealso` changes nothing."""
    patients = [
        head("a", replaced_by="b"),
        head("b", replaced_by="c"),
        head("c", replaces="d"),
        head("e", seealso="a"),
    ]
    assert survivors(patients) == {
        "Patient/a": "Patient/c",
        "Patient/b": "Patient/c",
        "Patient/d": "Patient/c",
    }


def test_patients_that_replace_each_other():
    """A circle has no survivor: the source is wrong, and the message says where."""
    with pytest.raises(SourceNotFhir, match=r"Patient\.link: merged patients replace each other in a circle"):
        survivors([head("a", replaced_by="b"), head("b", replaced_by="a")])


def test_a_resource_of_the_wrong_shape():
    """The JSON path of what is wrong."""
    assert decode_head(b'{"resourceType": "Patient", "link": [{"other": 3}]}') == Verdict(
        "quarantined", "shape", "$.link[0].other"
    )
    assert decode_head(b"{") == Verdict("quarantined", "not-json", "$")
