"""Policies of the reader's own, from a Python file."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

from smartprof.errors import InputError
from smartprof.policies.base import Policy

SUFFIX = ".py"


@cache
def load_policy(path: str) -> type[Policy]:
    """The one policy that a file defines; the file is run, once.

    Raises InputError for a file that is missing or does not define exactly one concrete subclass
    of `Policy` with a name. What the file itself raises keeps its traceback.
    """
    if not Path(path).is_file():
        raise InputError(f"expected a Python file with a policy, found no {path}")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = [x for x in vars(module).values() if _is_own(x, module.__name__)]
    if len(found) != 1:
        names = ", ".join(x.__name__ for x in found) or "none"
        raise InputError(f"{path}: expected one subclass of Policy with grow and cut, got {names}")
    if not isinstance(getattr(found[0], "name", None), str):
        raise InputError(f"{path}: expected {found[0].__name__} to have a `name`, got none")
    return found[0]


def _is_own(thing: object, module: str) -> bool:
    """Whether it is a policy that can be made and was defined there, not imported."""
    return (
        isinstance(thing, type)
        and issubclass(thing, Policy)
        and not thing.__abstractmethods__
        and thing.__module__ == module
    )
