from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from write_profile_schema import TARGET, schema_text

from smartprof.errors import ProfileError
from smartprof.profile.canonical import checksum
from smartprof.profile.cost import CostModel
from smartprof.profile.files import load_profile, parse_profile
from smartprof.profile.keys import CONSEQUENCES
from smartprof.profile.schema import AXES, SCHEMA_VERSION, Profile
from tests.conformance.readers import ROOT, load_vendored

DATA = Path(__file__).parent / "data"
KEPT = sorted(DATA.glob("profile-v*.json"))
PAGE = (ROOT / "profiles" / "SCHEMA.md").read_text(encoding="utf-8")


def _models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A model and all those that its fields hold."""
    yield model
    for field in model.model_fields.values():
        for part in _parts(field.annotation):
            yield from _models(part)


def _parts(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [y for x in getattr(annotation, "__args__", ()) for y in _parts(x)]


def _undescribed(page: str) -> set[str]:
    """Fields of the models that the page never names."""
    named = {y for x in re.findall(r"`([\w.]+)`", page) for y in x.split(".")}
    return {y for x in _models(Profile) for y in x.model_fields} - named


def test_the_page_names_every_field() -> None:
    assert _undescribed(PAGE) == set()
    assert _undescribed(PAGE.replace("`spread`", "")) == {"spread"}


def test_the_page_tells_of_each_field_of_the_key_what_a_difference_does() -> None:
    rows = re.findall(r"^\| (`[^|]+`) \|[^|]+\| (\w+) \|$", PAGE, re.MULTILINE)
    told = {y: consequence for x, consequence in rows for y in re.findall(r"`([\w.]+)`", x)}
    assert told == CONSEQUENCES


def test_the_page_tells_the_history_up_to_this_version() -> None:
    history = PAGE[PAGE.index("## History") :]
    versions = [int(x) for x in re.findall(r"^- \*\*(\d+)\*\*", history, re.MULTILINE)]
    assert versions == list(range(1, SCHEMA_VERSION + 1))


def test_the_json_schema_is_that_of_the_models() -> None:
    assert TARGET.read_text(encoding="utf-8") == schema_text(), "run `make contract`"


def test_the_json_schema_wants_what_a_written_file_has_and_no_more() -> None:
    schema, written = json.loads(schema_text()), json.loads(KEPT[-1].read_text(encoding="utf-8"))
    assert set(schema["required"]) == set(written) == set(schema["properties"])
    for name, part in schema["$defs"].items():
        assert set(part["required"]) == set(part["properties"]), name
        assert part["additionalProperties"] is False, name


def test_a_file_of_every_version_is_kept() -> None:
    versions = {int(re.sub(r"\D", "", x.stem)) for x in KEPT}
    assert versions == set(range(1, SCHEMA_VERSION + 1))


@pytest.mark.parametrize("path", KEPT, ids=lambda x: x.name)
def test_a_kept_file_loads_and_predicts_what_it_did(path: Path) -> None:
    """Its held-out points tell what its own version predicted."""
    profile = load_profile(path)
    assert profile.schema_version == SCHEMA_VERSION
    drafters = list(profile.drafters)
    assert len(drafters) == 1, "one drafter, so that the points need not name it"
    assert {x.quantity for x in profile.quality.points} == set(AXES)
    assert _strayed(profile) == []


@pytest.mark.parametrize("path", KEPT, ids=lambda x: x.name)
def test_a_kept_file_whose_prediction_is_not_met_is_noticed(path: Path) -> None:
    profile = load_profile(path)
    knot = profile.verify.curves[0].knots[0]
    changed = knot.model_copy(update={"seconds": knot.seconds * 2})
    profile.verify.curves[0].knots[0] = changed
    assert _strayed(profile) != []


def _strayed(profile: Profile) -> list[str]:
    (drafter,) = profile.drafters
    costs = CostModel(profile, drafter)
    return [
        f"{x.quantity} {x.batch} {x.size} {x.context}"
        for x in profile.quality.points
        if costs.predict(x.quantity, x.batch, x.size, x.context).seconds
        != pytest.approx(x.predicted_seconds, rel=1e-12)
    ]


def test_a_version_of_the_future_is_refused_by_all_who_read() -> None:
    text = KEPT[-1].read_text(encoding="utf-8")
    later = text.replace(
        f'"schema_version": {SCHEMA_VERSION}', f'"schema_version": {SCHEMA_VERSION + 1}'
    )
    later = later.replace(json.loads(text)["checksum"], checksum(later))
    with pytest.raises(ProfileError, match=f"expected schema_version 1 or {SCHEMA_VERSION}, got"):
        parse_profile(later, "later.json")
    with pytest.raises(ValueError, match=rf"expected schema_version in \(1, {SCHEMA_VERSION}\)"):
        load_vendored().Profile(later)
