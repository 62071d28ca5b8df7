"""What `smartprof simulate` does, without torch: open files, simulate, summarise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smartprof.errors import InputError
from smartprof.policies.table import POLICIES
from smartprof.profile.cost import CostModel
from smartprof.profile.files import checksum, find_profile, load_profile
from smartprof.profile.schema import Profile
from smartprof.report.json_files import require_writable
from smartprof.report.simulated import SimulatedRun, simulated_report, summarise_simulated
from smartprof.simulate.replay import RecordedWorld
from smartprof.simulate.run import SimulatedLane, Study, simulate
from smartprof.simulate.synthetic import Law, SyntheticWorld
from smartprof.simulate.world import World
from smartprof.trees.recording_file import read_recording


@dataclass(frozen=True)
class SimulateRequest:
    """The options of `smartprof simulate`, parsed. drafter: of synthetic acceptance alone."""

    profile: str
    trace: Path | None
    acceptance: str | None
    drafter: str | None
    policies: tuple[str, ...]
    batches: tuple[int, ...]
    contexts: tuple[int, ...]
    seed: int
    files: tuple[Path, ...]
    force: bool


@dataclass(frozen=True)
class SimulateReport:
    """What was found, and the JSON of it."""

    heading: str
    runs: list[SimulatedRun]
    content: dict[str, Any]


def simulate_report(request: SimulateRequest, say: Callable[[str], None]) -> SimulateReport:
    """Simulate and summarise. Raises before anything runs whatever can be known then."""
    for path in request.files:
        require_writable(path, request.force)
    if len(set(request.files)) < len(request.files):
        raise InputError("expected different files for --json and --plot, got one twice")
    if not request.policies:
        raise InputError(f"expected --policy to name one of {', '.join(POLICIES)}, got none")
    path = find_profile(request.profile)
    profile = load_profile(path)
    world, facts = _world(request, profile)
    costs = CostModel(profile, world.sources[-1])
    for source in world.sources:
        costs.source(source)  # raises if it was not measured
    study = Study(request.policies, request.batches, request.contexts or (None,), request.seed)
    for warning in _warnings(profile, request, world):
        say(f"warning: {warning}")
    lanes = list(_told(simulate(world, costs, study), say))
    heading = (
        f"simulated: {world.label}; seconds of {profile.key.target.name} on "
        f"{profile.key.device.name} ({profile.provenance.kind} profile); queue drawn with seed "
        f"{request.seed}"
    )
    runs = summarise_simulated(lanes)
    facts |= {"seed": request.seed, "profile": checksum(path.read_text(encoding="utf-8"))}
    return SimulateReport(heading, runs, simulated_report(runs, heading, facts))


def _world(request: SimulateRequest, profile: Profile) -> tuple[World, dict[str, Any]]:
    """Where outcomes come from, also as facts for the JSON."""
    if (request.trace is None) == (request.acceptance is None):
        raise InputError(
            "expected either --trace FILE or --acceptance synthetic:RATE, got "
            + ("both" if request.trace else "neither")
        )
    if request.trace is not None:
        if request.drafter is not None:
            raise InputError("expected --drafter with --acceptance alone: a trace names its own")
        recording = read_recording(request.trace)
        return RecordedWorld(recording), {"trace": str(request.trace), "acceptance": None}
    assert request.acceptance is not None
    law = Law.parse(request.acceptance)
    drafter = request.drafter or next(iter(profile.drafters), "any")  # refused where it is priced
    return SyntheticWorld(law, drafter, request.seed), {"trace": None, "acceptance": str(law)}


def _warnings(profile: Profile, request: SimulateRequest, world: World) -> Iterator[str]:
    """What a reader of the figures must know."""
    batches = profile.plain_decode.domain.size  # of plain decoding the size is the batch
    outside = [x for x in request.batches if not batches[0] <= x <= batches[1]]
    if outside:
        yield (
            f"batch {', '.join(map(str, outside))} is outside of what was measured "
            f"({batches[0]} to {batches[1]}): seconds there are extrapolated"
        )
    if isinstance(world, RecordedWorld):
        facts = world.recording.facts
        measured = profile.drafters[world.sources[-1]].digest
        if facts.digest != measured or facts.target != profile.key.target.name:
            yield (
                f"acceptance is of {facts.target} with {facts.drafter}, seconds are of "
                f"{profile.key.target.name} with another drafter or target"
            )


def _told(lanes: Iterator[SimulatedLane], say: Callable[[str], None]) -> Iterator[SimulatedLane]:
    for lane in lanes:
        where = "" if lane.context is None else f", context {lane.context}"
        say(f"simulated batch {lane.result.batch}{where}, {lane.result.policy}")
        yield lane
