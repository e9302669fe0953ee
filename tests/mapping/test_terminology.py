"""ConceptMaps: what is found, in which order, and what is counted as unknown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fhir_adapter.assets import asset
from fhir_adapter.errors import SiteFileError, StudyFileError
from fhir_adapter.mapping.terminology import Terminology, Unknown, load_concept_map

NCIT = "http://ncicb.nci.nih.gov/xml/owl/EVS/Thesaurus.owl"
SNOMED = "http://snomed.info/sct"


def test_a_code_with_a_target_wins_over_a_known_code_without_one():
    """`improved` is known and has no target; the NCIt code after it has one."""
    match = Terminology().translate("response", [(SNOMED, "268910001", None), (NCIT, "C4870", None)])
    assert match is not None
    assert match.target == "CR"


def test_text_is_compared_without_regard_to_case_spaces_and_width():
    """Full-width letters, capitals and double spaces are the same words."""
    match = Terminology().translate("drug", [], "  ＡＮＬＯＴＩＮＩＢ   hydrochloride")
    assert match is not None
    assert match.target == "anlotinib"
    assert match.properties == {"category": "ANTICANCER"}


def test_the_parent_of_an_icd_code_stands_for_it():
    """C77.5 is not listed, C77 is; I10 falls back on its chapter; other systems have no parents."""
    terminology = Terminology()
    icd = "http://hl7.org/fhir/sid/icd-10"
    found = [
        terminology.translate("condition-category", [(icd, code, None)])
        for code in ("C77.5", "C48.0", "I10.0")
    ]
    assert [match.target for match in found if match is not None] == ["SECONDARY", "PRIMARY", "OTHER"]
    assert terminology.translate("condition-category", [(SNOMED, "C77.5", None)]) is None


def test_unknown_codes_are_counted():
    """The first coding of an unknown concept is counted, each time it is met; an empty concept is not."""
    terminology = Terminology()
    for _ in range(2):
        assert terminology.translate("sex", [("urn:x", "1", "one"), ("urn:y", "2", None)]) is None
    assert terminology.translate("sex", []) is None
    assert terminology.unknown == {Unknown("sex", "urn:x", "1", "one"): 2}


def test_a_map_that_the_study_leaves_out_knows_nothing():
    """With a list of maps, others are not used; a map that does not ship is an error."""
    terminology = Terminology(["sex"])
    assert terminology.translate("response", [(NCIT, "C4870", None)]) is None
    with pytest.raises(StudyFileError, match="no such shipped file"):
        Terminology(["nonsense"])


def test_not_a_concept_map(tmp_path: Path):
    """A file that is something else is refused by name."""
    path = tmp_path / "x.json"
    path.write_text('{"resourceType": "Patient"}')
    with pytest.raises(StudyFileError, match=r"x\.json: a Patient, not a ConceptMap"):
        load_concept_map("x", path)
    path.write_text("[]")
    with pytest.raises(StudyFileError, match="not a ConceptMap"):
        load_concept_map("x", path)


@pytest.mark.parametrize(
    "path", sorted(asset("mappings", "concepts").glob("*.json")), ids=lambda path: path.stem
)
def test_shipped_maps_say_each_thing_once(path: Path):
    """Every shipped map loads, is named like its file, and lists no code twice."""
    load_concept_map(path.stem, path)
    resource = json.loads(path.read_text("utf-8"))
    assert resource["url"] == f"https://fhir-adapter.org/ConceptMap/{path.stem}"
    for group in resource["group"]:
        codes = [element["code"] for element in group["element"]]
        assert len(codes) == len(set(codes)), group["source"]


@pytest.mark.parametrize(
    "path", sorted(asset("mappings", "views").glob("*.json")), ids=lambda path: path.stem
)
def test_shipped_views_name_maps_that_ship(path: Path):
    """Every column's tag names a concept map that is there."""
    view = json.loads(path.read_text("utf-8"))
    assert view["name"] == path.stem
    for select in view["select"]:
        for column in select["column"]:
            for tag in column.get("tag", []):
                if tag["name"] == "fhir-adapter/concept-map":
                    assert asset("mappings", "concepts", f"{tag['value']}.json").is_file()


def write_map(folder: Path, name: str, source: str, code: str, target: str) -> None:
    """A ConceptMap of one code, as a site would add it."""
    folder.mkdir(exist_ok=True)
    element = {"code": code, "target": [{"code": target, "equivalence": "equivalent"}]}
    tree = {
        "resourceType": "ConceptMap",
        "status": "active",
        "group": [{"source": source, "element": [element]}],
    }
    (folder / f"{name}.json").write_text(json.dumps(tree), "utf-8")


def test_a_map_of_the_site_adds_to_what_ships_and_goes_before_it(tmp_path: Path):
    """A code of its own becomes known, one that ships gets the site's meaning, all others keep theirs."""
    write_map(tmp_path / "a", "ecog", "https://hospital.example/ps", "gut", "0")
    write_map(tmp_path / "b", "ecog", "http://loinc.org", "LA9622-7", "1")
    plain = Terminology()
    own = Terminology(None, [tmp_path / "a", tmp_path / "b"])

    def target(terminology: Terminology, system: str, code: str) -> str | None:
        match = terminology.translate("ecog", [(system, code, None)])
        return None if match is None else match.target

    assert (None, "0") == tuple(target(one, "https://hospital.example/ps", "gut") for one in (plain, own))
    assert ("0", "1") == tuple(target(one, "http://loinc.org", "LA9622-7") for one in (plain, own))
    assert ("1", "1") == tuple(target(one, "http://loinc.org", "LA9623-5") for one in (plain, own))


def test_a_map_that_nobody_would_read(tmp_path: Path):
    """A file with the name of no map, and a folder that is not there, are mistakes of the site file."""
    write_map(tmp_path / "a", "drugs", "https://hospital.example/drugs", "x", "anlotinib")
    with pytest.raises(SiteFileError, match=r"drugs\.json: the name of this file is that of no concept map"):
        Terminology(None, [tmp_path / "a"])
    with pytest.raises(SiteFileError, match="no such folder of concept maps"):
        Terminology(None, [tmp_path / "nowhere"])
