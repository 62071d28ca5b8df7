"""Measures what speculative decoding costs on a device, and sizes its trees by the result.

As a library, without torch:

>>> from smartprof import CostModel, find_profile, load_profile, make_policy
>>> profile = load_profile(find_profile("xeon-2t-smollm2.json"))
>>> seconds = CostModel(profile, "ngram").verify(4, 22, 300.0)
>>> policy = make_policy("smart")
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smartprof.policies.table import make_policy
    from smartprof.profile.cost import CostModel
    from smartprof.profile.files import find_profile, load_profile

try:
    __version__ = version("smartprof")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"

__all__ = ["CostModel", "__version__", "find_profile", "load_profile", "make_policy"]

# Loaded when asked for, so that a command loads no more than it needs.
HOMES = {
    "CostModel": "smartprof.profile.cost",
    "find_profile": "smartprof.profile.files",
    "load_profile": "smartprof.profile.files",
    "make_policy": "smartprof.policies.table",
}


def __getattr__(name: str) -> Any:
    """One of the names above; AttributeError for any other."""
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(HOMES[name]), name)
