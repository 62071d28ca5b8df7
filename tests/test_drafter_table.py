"""What `--drafter` names, and what is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smartprof.device import resolve_device
from smartprof.drafters import table
from smartprof.drafters.shipped import HEADS
from smartprof.drafters.table import choose_drafter, drafter_maker
from smartprof.errors import InputError, ModelError, SmartprofError
from smartprof.models.loading import LoadedModel, load_model
from tests.families import FAMILIES, write_family
from tests.tiny_head import write_head

TINY = "shape:tiny-llama"


@pytest.fixture(scope="module")
def target() -> LoadedModel:
    return load_model("shape:tiny-llama", resolve_device("cpu"))


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("family")
    write_family(FAMILIES[0], folder)
    return folder


def test_every_spelling_names_what_it_says(tmp_path: Path, family: Path) -> None:
    head = write_head(tmp_path / "head")
    found = {
        x: (y.kind, y.network)
        for x in (
            "ngram",
            "shape:tiny-llama",
            "lm:shape:tiny-llama",
            "hybrid:shape:tiny-llama",
            "eagle3:random",
            "hybrid:random",
            f"{head}",
            f"eagle3:{head}",
            f"hybrid:{head}",
            f"{family}",
            f"hybrid:{family}",
        )
        if (y := choose_drafter(x, TINY))
    }
    assert list(found.values()) == [
        ("ngram", None),
        ("lm", "lm"),
        ("lm", "lm"),
        ("hybrid", "lm"),
        ("eagle3", "eagle3"),
        ("hybrid", "eagle3"),
        ("eagle3", "eagle3"),
        ("eagle3", "eagle3"),
        ("hybrid", "eagle3"),
        ("lm", "lm"),
        ("hybrid", "lm"),
    ]


@pytest.mark.parametrize("text", ["lm", "", "lm:", "eagle3:", "ngram:x", "auto:x", "lm:random"])
def test_a_text_that_names_no_network_is_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(InputError, match="expected --drafter auto, ngram") as refused:
        choose_drafter(text, TINY)
    assert "\n" not in str(refused.value)


@pytest.fixture
def shipped(tmp_path: Path, target: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A head that comes with the package for the tiny target."""
    monkeypatch.setattr("smartprof.drafters.shipped.FOLDER", tmp_path)
    monkeypatch.setitem(HEADS, target.source.shape.digest, "tiny")
    return write_head(tmp_path / "tiny")


def test_the_shipped_head_is_found_by_its_target(shipped: Path) -> None:
    chosen = {x: choose_drafter(x, TINY) for x in ("auto", "hybrid", "eagle3")}
    assert {x: y.kind for x, y in chosen.items()} == {
        "auto": "hybrid",
        "hybrid": "hybrid",
        "eagle3": "eagle3",
    }
    assert {x.path for x in chosen.values()} == {shipped}
    assert choose_drafter("auto", TINY, priced=["ngram"]).kind == "ngram"
    assert choose_drafter("auto", TINY, priced=["ngram", "hybrid"]).kind == "hybrid"


def test_a_target_without_a_shipped_head_gets_n_grams_or_is_told_so() -> None:
    assert choose_drafter("auto", TINY).kind == "ngram"
    for text in ("eagle3", "hybrid"):
        with pytest.raises(InputError, match=f"no head is shipped for .*{text}:HEAD") as refused:
            choose_drafter(text, TINY)
        assert "\n" not in str(refused.value)


def test_a_head_is_not_a_language_model_and_the_other_way_round(
    tmp_path: Path, family: Path
) -> None:
    head = write_head(tmp_path)
    with pytest.raises(InputError, match="expected lm, its config"):
        choose_drafter(f"lm:{head}", TINY)
    with pytest.raises(ModelError):
        drafter_maker(choose_drafter(f"eagle3:{family}", TINY), load_model("shape:tiny-llama", CPU))


CPU = resolve_device("cpu")


def test_a_drafter_of_another_vocabulary_is_refused_in_one_line(
    target: LoadedModel, family: Path, tmp_path: Path
) -> None:
    head = write_head(tmp_path, {"vocab_size": 97})
    for text in ("lm:shape:SmolLM2-135M", f"lm:{family}", f"hybrid:{family}", f"eagle3:{head}"):
        with pytest.raises(ModelError, match="256 tokens") as refused:
            drafter_maker(choose_drafter(text, TINY), target)
        assert "\n" not in str(refused.value)


def test_models_of_one_shape_whose_tokenizers_differ_are_no_pair(
    family: Path, tmp_path: Path
) -> None:
    folders = []
    for name, token in (("one", "a"), ("other", "b")):
        folder = tmp_path / name
        folder.mkdir()
        for path in family.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        words = {"<unk>": 0, token: 1}
        model = {"type": "WordLevel", "vocab": words, "unk_token": "<unk>"}
        (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0", "model": model}))
        folders.append(str(folder))
    target = load_model(folders[0], CPU)
    assert drafter_maker(choose_drafter(f"lm:{folders[0]}", TINY), target)().name == "lm"
    with pytest.raises(ModelError, match="vocabulary of one"):
        drafter_maker(choose_drafter(f"lm:{folders[1]}", TINY), target)


def test_a_missing_directory_is_refused_in_one_line(target: LoadedModel, tmp_path: Path) -> None:
    found = {"": "no model", "lm:": "no model", "eagle3:": "found nothing", "hybrid:": "no model"}
    for kind, message in found.items():
        with pytest.raises(SmartprofError, match=message) as refused:
            drafter_maker(choose_drafter(f"{kind}{tmp_path / 'nothing'}", TINY), target)
        assert "\n" not in str(refused.value)


def test_a_head_and_a_model_are_told_apart_by_their_hub_ids_before_weights_are_fetched(
    tmp_path: Path, family: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = {"someone/head": write_head(tmp_path / "head"), "someone/model": family}
    asked: list[tuple[str, tuple[str, ...]]] = []

    def resolve(name: str, patterns: tuple[str, ...]) -> Path:
        asked.append((name, patterns))
        return folders[name]

    monkeypatch.setattr(table, "resolve_hub", resolve)
    head = choose_drafter("hybrid:someone/head", TINY)
    assert (head.network, head.path) == ("eagle3", folders["someone/head"])
    assert choose_drafter("someone/model", TINY).network == "lm"
    assert asked == [
        ("someone/head", ("config.json",)),
        ("someone/head", table.HEAD_FILES),
        ("someone/model", ("config.json",)),
    ]


def test_fresh_drafters_share_their_network_and_nothing_else(target: LoadedModel) -> None:
    make = drafter_maker(choose_drafter("hybrid:shape:tiny-llama", TINY), target)
    first, second = make(), make()
    assert first is not second
    assert first.model.model is second.model.model  # type: ignore[attr-defined]
    assert first.gate is not second.gate  # type: ignore[attr-defined]
    assert first.digest == second.digest
