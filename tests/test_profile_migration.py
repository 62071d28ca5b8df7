from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from smartprof.errors import ProfileError
from smartprof.profile.canonical import checksum
from smartprof.profile.files import load_profile, parse_profile, save_profile
from smartprof.profile.migrate import MIGRATIONS, VERSIONS
from smartprof.profile.schema import SCHEMA_VERSION
from tests.conformance.subjects import of_version_1
from tests.profiles import make_profile

KEPT = Path(__file__).parent / "data" / "profile-v1.json"
SHIPPED = sorted((Path(__file__).parents[1] / "profiles").glob("*.json"))


def sealed(document: dict[str, Any]) -> str:
    return json.dumps(document | {"checksum": checksum(json.dumps(document))})


def test_every_version_before_the_present_has_a_migration() -> None:
    assert sorted(MIGRATIONS) == list(range(1, SCHEMA_VERSION))
    assert tuple(range(1, SCHEMA_VERSION + 1)) == VERSIONS


def test_an_older_file_keeps_all_it_says_and_says_nothing_new() -> None:
    profile = make_profile(half_width=0.01)
    text = sealed(of_version_1(profile.model_dump(mode="json")))
    loaded = parse_profile(text, "old.json")
    assert loaded.model_copy(update={"checksum": ""}) == profile
    assert loaded.quality.regret is None


@pytest.mark.parametrize("path", [KEPT, *SHIPPED], ids=lambda x: x.name)
def test_the_checksum_of_an_older_file_is_verified_as_written(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert load_profile(path).checksum == json.loads(text)["checksum"] == checksum(text)
    edited = text.replace('"created": "2', '"created": "3', 1)
    assert edited != text
    with pytest.raises(ProfileError, match="was edited or damaged"):
        parse_profile(edited, "edited.json")


def test_an_older_file_saved_again_is_one_of_the_present_version(tmp_path: Path) -> None:
    again = tmp_path / "again.json"
    written = save_profile(load_profile(KEPT), again)
    assert json.loads(again.read_text())["schema_version"] == SCHEMA_VERSION
    assert load_profile(again) == written
    assert written.verify == load_profile(KEPT).verify


@pytest.mark.parametrize("where", ["quality", "curve"])
def test_an_older_file_with_a_field_of_the_present_is_refused(where: str) -> None:
    document = json.loads(KEPT.read_text())
    part, name = {
        "quality": (document["quality"], "regret"),
        "curve": (
            document["drafters"]["ngram"]["draft_step"]["curves"][0],
            "free_tokens_10_interval",
        ),
    }[where]
    part[name] = None
    with pytest.raises(ProfileError, match=f"expected no {name} in this version"):
        parse_profile(sealed(document), "mixed.json")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda x: x.update(quality=3),
        lambda x: x.update(drafters=[1]),
        lambda x: x["drafters"].update(ngram=None),
        lambda x: x["verify"].update(curves=7),
        lambda x: x["verify"].update(curves=[None, 3]),
        lambda x: x.pop("verify"),
    ],
)
def test_an_older_file_of_another_form_is_refused_in_one_line(spoil: Any) -> None:
    document = json.loads(KEPT.read_text())
    spoil(document)
    with pytest.raises(ProfileError, match="not a valid profile: ") as error:
        parse_profile(sealed(document), "spoilt.json")
    assert "\n" not in str(error.value)


def test_a_file_of_the_present_version_without_a_new_field_is_refused() -> None:
    document = make_profile().model_dump(mode="json")
    del document["quality"]["regret"]
    with pytest.raises(ProfileError, match=r"quality\.regret: expected this field, got nothing"):
        parse_profile(sealed(document), "short.json")
