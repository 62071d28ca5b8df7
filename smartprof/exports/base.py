"""What an exporter is given, what it answers, and what all of them say."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from smartprof.errors import InputError
from smartprof.planning.acceptance import Acceptance
from smartprof.planning.families.base import Bounds
from smartprof.planning.inputs import largest_batch
from smartprof.planning.plan import Rule
from smartprof.profile.cost import CostModel
from smartprof.profile.schema import Profile


@dataclass(frozen=True)
class ExportRequest:
    """The options of `smartprof export`, parsed.

    context: the one that settings are chosen at. max_batch: where the last tier ends. batch: for
    engines with one setting per server, the batch that it is chosen for; None: for all batches to
    `max_batch`. graph_sizes: batches that the engine captures graphs of; None: its defaults.
    target, draft: what the printed command names. path: of the file that is written.
    """

    costs: CostModel
    acceptance: Acceptance
    context: float
    max_batch: int
    path: Path
    batch: int | None = None
    graph_sizes: tuple[int, ...] | None = None
    rule: Rule = field(default_factory=Rule)
    bounds: Bounds = field(default_factory=Bounds)
    target: str = "TARGET"
    draft: str = "DRAFT"

    @property
    def drafter_kind(self) -> str:
        """ngram, lm, eagle3 or hybrid."""
        return self.costs.profile.drafters[str(self.costs.drafter)].kind

    @property
    def provenance(self) -> dict[str, Any]:
        """What a file carries of its origin where the engine tolerates it."""
        profile = self.costs.profile
        return {
            "profile": profile.checksum,
            "provenance": profile.provenance.kind,
            "created": profile.created,
            "context": self.context,
            "acceptance": self.acceptance.heading,
        }

    @property
    def comment(self) -> str:
        """The same in one line."""
        words = ", ".join(f"{x} {y}" for x, y in self.provenance.items())
        return f"smartprof: {' '.join(words.split())}"


# Options that not every engine has a use for, and whether a request has them.
OPTIONAL: dict[str, Callable[[ExportRequest], bool]] = {
    "--batch": lambda x: x.batch is not None,
    "--graph-sizes": lambda x: x.graph_sizes is not None,
    "--min-gain": lambda x: x.rule.min_gain > 0,
    "--settings": lambda x: x.rule.ranges is not None,
    "--min-length": lambda x: x.bounds.least > 0,
}
TIERS = frozenset({"--graph-sizes", "--min-gain", "--settings", "--min-length"})
ONE_SETTING = frozenset({"--batch", "--min-length"})


@dataclass(frozen=True)
class Export:
    """A file's content, the command that consumes it, and what to know about it, in sentences."""

    content: str
    command: str
    remarks: tuple[str, ...]


class Exporter(ABC):
    """Turns a plan into one engine's file.

    engine: with the version whose rules are kept. summary: what is written. kinds: drafter kinds
    that the engine can draft with in this way, with its names for them. most_batch: None, or the
    largest batch that it speculates with. takes: options that it has a use for, of `OPTIONAL`.
    """

    name: ClassVar[str]
    engine: ClassVar[str]
    summary: ClassVar[str]
    kinds: ClassVar[Mapping[str, str]]
    most_batch: ClassVar[int | None] = None
    takes: ClassVar[frozenset[str]]

    def default_max_batch(self, profile: Profile) -> int:
        """The largest measured batch that the engine speculates with."""
        largest = largest_batch(profile)
        return largest if self.most_batch is None else min(largest, self.most_batch)

    def export(self, request: ExportRequest) -> Export:
        """The file and its command. Raises InputError for what the engine cannot do at all."""
        self._require_possible(request)
        return self._export(request)

    @abstractmethod
    def _export(self, request: ExportRequest) -> Export:
        """Of a request that the engine can serve."""

    def _require_possible(self, request: ExportRequest) -> None:
        if request.drafter_kind not in self.kinds:
            raise InputError(
                f"{self.name}: expected a drafter of kind {' or '.join(self.kinds)}, which "
                f"{self.engine} can draft with in this way, got {request.drafter_kind}: name "
                "another --drafter, or calibrate with one"
            )
        if self.most_batch is not None and request.max_batch > self.most_batch:
            raise InputError(
                f"{self.name}: expected --max-batch of at most {self.most_batch}, more "
                f"{self.engine} does not speculate with, got {request.max_batch}"
            )
        for option, given in OPTIONAL.items():
            if given(request) and option not in self.takes:
                raise InputError(
                    f"{self.name}: expected no {option}: {self.summary} has no use for it"
                )


def nothing_pays(request: ExportRequest, batches: str) -> InputError:
    """What is raised where plain decoding is best everywhere: no engine needs a file for that."""
    return InputError(
        f"speculation pays at no batch ({batches}, context {request.context:g}): nothing to "
        "export, run the engine without it"
    )
