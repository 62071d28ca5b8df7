"""Token ids against transformers, and against a byte-pair encoder written out step by step."""

from __future__ import annotations

import json
import shutil
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer

from smartprof.errors import ModelError
from smartprof.models.tokenizer import Tokenizer
from tests.default_model import default_model_dir

PROMPTS = Path(__file__).parents[1] / "smartprof" / "assets" / "prompts.jsonl"
WORD = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

ODD_TEXTS = [
    "",
    " ",
    "hello",
    "Hello,  world!   12345 and 3.14159",
    "tabs\t\tand\r\nlines\n\n\n  indented\n",
    "def f(x):\n    return x ** 2  # square\n",
    "naïve café Ångström ß ﬁ ligature",
    "漢字かな交じり文、한국어 텍스트",
    "🙂👩‍👩‍👧‍👦🏳️‍🌈 flags 🇩🇪",
    "e\u0301 combining and \u200bzero\u00a0width\u202e marks",
    "digits ٣٤ ½ ² Ⅷ \uff11\uff12\uff13 mixed1a2b",
    "\ufeffbyte order \x00 null \x7f",
    "don't they'll we've I'M",
    "<|im_start|>user\nhi<|im_end|>\n<|endoftext|>",
    "<|im_start|><|im_end|> <repo_name>x<file_sep> <|im_start",
    "\U0001d518\U0001d52b\U0001d526 \U0010ffff \u0e01\u0e33",
    " " * 70 + "x" + "\n" * 40,
]


@cache
def ours() -> Tokenizer:
    return Tokenizer(default_model_dir())


@cache
def theirs() -> Any:
    return AutoTokenizer.from_pretrained(default_model_dir())


@cache
def vocabulary_and_ranks() -> tuple[dict[str, int], dict[tuple[str, str], int], list[str]]:
    content = json.loads((default_model_dir() / "tokenizer.json").read_text(encoding="utf-8"))
    ranks = {tuple(pair): rank for rank, pair in enumerate(content["model"]["merges"])}
    specials = [token["content"] for token in content["added_tokens"]]
    return content["model"]["vocab"], ranks, specials


@cache
def byte_letters() -> dict[int, str]:
    """GPT-2's printable letter for every byte: printable bytes stand for themselves."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable}
    return letters | {byte: chr(256 + index) for index, byte in enumerate(others)}


def encode_step_by_step(text: str) -> list[int]:
    """Special tokens first, then every digit alone, then words, then merges by rank."""
    vocabulary, ranks, specials = vocabulary_and_ranks()
    longest_first = sorted(specials, key=len, reverse=True)
    ids: list[int] = []
    for part in regex.split("(" + "|".join(map(regex.escape, longest_first)) + ")", text):
        if part in specials:
            ids.append(vocabulary[part])
            continue
        for piece in regex.split(r"(\p{N})", part):
            for word in regex.findall(WORD, piece):
                ids += [vocabulary[symbol] for symbol in merge_by_rank(word, ranks)]
    return ids


def merge_by_rank(word: str, ranks: dict[tuple[str, str], int]) -> list[str]:
    vocabulary = vocabulary_and_ranks()[0]
    symbols = [letter for letter in letters_of(word) if letter in vocabulary]
    while True:
        pairs = [(ranks.get(pair, len(ranks)), i) for i, pair in enumerate(pairwise(symbols))]
        rank, i = min(pairs, default=(len(ranks), 0))
        if rank == len(ranks):
            return symbols
        symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]


def letters_of(text: str) -> list[str]:
    return [byte_letters()[byte] for byte in text.encode()]


def is_expressible(text: str) -> bool:
    """The model's vocabulary has no token for some bytes; they vanish in every implementation."""
    return all(letter in vocabulary_and_ranks()[0] for letter in letters_of(text))


def test_the_byte_letters_of_the_second_implementation_are_complete() -> None:
    assert set(byte_letters().values()) == set(pre_tokenizers.ByteLevel.alphabet())


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_ids_of_odd_texts_equal_transformers_and_a_step_by_step_encoder(text: str) -> None:
    ids = ours().encode(text)
    assert ids == theirs().encode(text)
    assert ids == encode_step_by_step(text)
    assert not is_expressible(text) or ours().decode(ids) == text


def test_few_odd_texts_hold_bytes_that_the_model_cannot_express() -> None:
    assert sum(is_expressible(text) for text in ODD_TEXTS) >= len(ODD_TEXTS) - 2


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_any_text_survives_and_encodes_as_in_the_other_implementations(text: str) -> None:
    ids = ours().encode(text)
    assert ids == theirs().encode(text) == encode_step_by_step(text)
    assert not is_expressible(text) or ours().decode(ids) == text
    assert all(0 <= token < ours().vocab_size for token in ids)


def test_the_second_implementation_notices_digits_that_are_not_split() -> None:
    together = [vocabulary_and_ranks()[0].get("12")]
    assert encode_step_by_step("12") != together
    assert len(ours().encode("12345")) == 5


def test_chat_prompts_equal_those_of_transformers_on_every_bundled_prompt() -> None:
    prompts = [json.loads(line)["prompt"] for line in PROMPTS.read_text("utf-8").splitlines()]
    assert prompts
    for text in [*prompts, *ODD_TEXTS]:
        messages = [{"role": "user", "content": text}]
        expected = theirs().apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
        assert ours().chat(text) == expected
        assert ours().encode(text) == encode_step_by_step(text)


def test_a_system_message_replaces_the_default_one_of_the_template() -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    expected = theirs().apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    ids = ours().chat("Hi", system="Be brief.")
    assert ids == expected
    assert "SmolLM" not in ours().decode(ids)
    assert "SmolLM" in ours().decode(ours().chat("Hi"))


def test_the_end_of_an_answer_is_the_end_of_a_chat_message() -> None:
    assert ours().eos_ids == frozenset(ours().encode("<|im_end|>"))
    assert ours().vocab_size == len(theirs())
    assert ours().decode([2, *ours().encode("a"), 2], skip_special=True) == "a"


def copy_tokenizer(folder: Path, **changes: object) -> Path:
    """The default model's tokenizer with other settings; a value of None removes the setting."""
    shutil.copy(default_model_dir() / "tokenizer.json", folder)
    config = json.loads((default_model_dir() / "tokenizer_config.json").read_text("utf-8"))
    config = {key: value for key, value in {**config, **changes}.items() if value is not None}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def test_a_model_without_a_template_says_which_file_was_expected(tmp_path: Path) -> None:
    tokenizer = Tokenizer(copy_tokenizer(tmp_path, chat_template=None))
    with pytest.raises(ModelError, match=r"tokenizer_config\.json, or one of chat_template\.jinja"):
        tokenizer.chat("hello")
    assert tokenizer.chat("hello", chat=False) == ours().encode("hello")
    assert tokenizer.chat("hello", "sys", chat=False) == ours().encode("sys\n\nhello")


@pytest.mark.parametrize("name", ["chat_template.jinja", "chat_template.json"])
def test_a_template_in_a_file_of_its_own_wins(tmp_path: Path, name: str) -> None:
    template = "{{ bos_token }}[{{ messages[0]['content'] }}]"
    text = template if name.endswith("jinja") else json.dumps({"chat_template": template})
    (copy_tokenizer(tmp_path) / name).write_text(text)
    assert Tokenizer(tmp_path).chat("x") == ours().encode("<|im_start|>[x]")


def test_of_several_templates_the_default_one_is_taken(tmp_path: Path) -> None:
    listed = [{"name": "tools", "template": "no"}, {"name": "default", "template": "yes"}]
    tokenizer = Tokenizer(copy_tokenizer(tmp_path, chat_template=listed))
    assert tokenizer.decode(tokenizer.chat("x")) == "yes"


def test_template_helpers_that_published_templates_use_are_there(tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}"
        "{{ m | tojson }} {{ strftime_now('%Y') | length }}{% endfor %}"
    )
    tokenizer = Tokenizer(copy_tokenizer(tmp_path, chat_template=template))
    expected = '{"role": "user", "content": "<ü>"} 4'
    assert tokenizer.decode(tokenizer.chat("<ü>")) == expected
    hugging_face = AutoTokenizer.from_pretrained(tmp_path)
    messages = [{"role": "user", "content": "<ü>"}]
    assert hugging_face.apply_chat_template(messages, tokenize=False) == expected


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('only users may speak') }}",
        "{% for %}",
        "{{ messages.__class__.__mro__[1].__subclasses__() }}",
    ],
)
def test_a_template_that_fails_or_reaches_outside_is_one_line(
    tmp_path: Path, template: str
) -> None:
    tokenizer = Tokenizer(copy_tokenizer(tmp_path, chat_template=template))
    with pytest.raises(ModelError, match=r"chat template of .* failed") as caught:
        tokenizer.chat("hello")
    assert "\n" not in str(caught.value)


def test_end_tokens_are_gathered_from_every_file_that_names_some(tmp_path: Path) -> None:
    copy_tokenizer(tmp_path, eos_token={"content": "<|im_end|>", "lstrip": False})
    (tmp_path / "config.json").write_text('{"eos_token_id": 0}')
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [3, 4]}')
    assert Tokenizer(tmp_path).eos_ids == {0, 2, 3, 4}


@pytest.mark.parametrize("text", [None, "", "{}", "not json", '{"version": "9"}'])
def test_a_missing_or_damaged_tokenizer_file_is_one_line(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(ModelError, match=r"tokenizer\.json") as caught:
        Tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[1, 2", "[" * 100_000], ids=["cut", "nested"])
def test_damaged_settings_are_one_line(tmp_path: Path, text: str) -> None:
    (copy_tokenizer(tmp_path) / "tokenizer_config.json").write_text(text)
    with pytest.raises(ModelError, match=r"tokenizer_config\.json cannot be read as JSON"):
        Tokenizer(tmp_path)
