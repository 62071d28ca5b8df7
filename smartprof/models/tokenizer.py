"""Text to token ids and back, with the model's own chat template.

Knows nothing about weights or torch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer as FastTokenizer

from smartprof.errors import ModelError
from smartprof.models.gguf_files import GgufFile
from smartprof.models.json_files import read_optional_json

CONFIG_FILES = ("config.json", "generation_config.json")
TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")
TOKENIZER_CONFIG = "tokenizer_config.json"
NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")


class Tokenizer:
    """The tokenizer of a Hugging Face directory or of a GGUF file.

    Args:
        path: the directory (`tokenizer.json` and its neighbours) or the `.gguf` file.

    Attributes:
        eos_ids: tokens that end an answer, from the model's configs and its chat end token.
        vocab_size: number of ids, added tokens included.

    Raises:
        ModelError: a file is missing or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.suffix == ".gguf":
            source = GgufFile(path)
            self._fast = FastTokenizer.from_str(source.tokenizer_json())
            self._settings, configs = source.tokenizer_config(), [source.config()]
        else:
            self._fast = _read_fast_tokenizer(path / "tokenizer.json")
            self._settings = read_optional_json(path / TOKENIZER_CONFIG)
            configs = [read_optional_json(path / name) for name in CONFIG_FILES]
        self._template = _find_template(path, self._settings)
        self.vocab_size = self._fast.get_vocab_size(with_added_tokens=True)
        self.eos_ids = self._find_eos_ids(configs)

    @property
    def tokens(self) -> dict[str, int]:
        """Every token and its id."""
        found: dict[str, int] = self._fast.get_vocab(with_added_tokens=True)
        return found

    def encode(self, text: str, *, add_special: bool = True) -> list[int]:
        """Token ids of a text.

        Args:
            add_special: let the tokenizer put the tokens around the text that it is set up for
                (Llama's begin-of-text; nothing for SmolLM2).
        """
        ids: list[int] = self._fast.encode(text, add_special_tokens=add_special).ids
        return ids

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """Text of token ids; bytes that are not valid UTF-8 become the replacement character."""
        text: str = self._fast.decode(list(ids), skip_special_tokens=skip_special)
        return text

    def chat(self, user_text: str, system: str | None = None, *, chat: bool = True) -> list[int]:
        """Token ids of a prompt that asks the model to answer one user message.

        Args:
            system: a system message; the template's own default if None.
            chat: apply the chat template; if not, the text is encoded as it stands.

        Raises:
            ModelError: the model has no chat template, or the template refuses the messages.
        """
        if not chat:
            return self.encode(user_text if system is None else f"{system}\n\n{user_text}")
        messages = [] if system is None else [{"role": "system", "content": system}]
        messages.append({"role": "user", "content": user_text})
        return self.encode(self._render(messages), add_special=False)

    def _render(self, messages: list[dict[str, str]]) -> str:
        if self._template is None:
            raise ModelError(
                f"{self.path} has no chat template: expected chat_template in {TOKENIZER_CONFIG}, "
                f"or one of {', '.join(TEMPLATE_FILES)}"
            )
        names = {name: self._named_token(name) for name in NAMED_TOKENS}
        known = {name: token for name, token in names.items() if token is not None}
        try:
            template = _template_environment().from_string(self._template)
            return template.render(messages=messages, add_generation_prompt=True, **known)
        except TemplateError as error:
            raise ModelError(f"the chat template of {self.path} failed: {error}") from error

    def _named_token(self, name: str) -> str | None:
        """A token of tokenizer_config.json: a string, or a table with `content`."""
        value = self._settings.get(name)
        text = value.get("content") if isinstance(value, dict) else value
        return text if isinstance(text, str) else None

    def _find_eos_ids(self, configs: list[dict[str, Any]]) -> frozenset[int]:
        ids: set[int] = set()
        for config in configs:
            value = config.get("eos_token_id")
            listed = value if isinstance(value, list) else [value]
            ids.update(item for item in listed if isinstance(item, int))
        end = self._named_token("eos_token")
        end_id = self._fast.token_to_id(end) if end is not None else None
        return frozenset(ids if end_id is None else ids | {end_id})


def _template_environment() -> ImmutableSandboxedEnvironment:
    """Templates come with the model: they run in a sandbox and see only what is put there."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda layout: datetime.now().strftime(layout)
    return environment


def _to_json(value: Any, indent: int | None = None) -> str:
    """Unlike Jinja's own filter this one does not escape HTML, as chat templates expect."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _find_template(path: Path, settings: dict[str, Any]) -> str | None:
    """The chat template: a file of its own wins over the one in tokenizer_config.json."""
    if path.is_dir():
        plain, wrapped = (path / name for name in TEMPLATE_FILES)
        if plain.exists():
            return plain.read_text(encoding="utf-8")
        template = read_optional_json(wrapped).get("chat_template")
        if isinstance(template, str):
            return template
    template = settings.get("chat_template")
    if isinstance(template, list):  # several templates, each with a name
        named = {item.get("name"): item.get("template") for item in template}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _read_fast_tokenizer(path: Path) -> FastTokenizer:
    if not path.is_file():
        raise ModelError(f"{path} is missing: expected a tokenizer in the format of `tokenizers`")
    try:
        return FastTokenizer.from_file(str(path))
    except Exception as error:  # the library raises no narrower type
        raise ModelError(f"{path} cannot be read as a tokenizer: {error}") from error
