"""Whether a profile can be trusted: is it complete, stable, recent, and of what is here?

Each answer is a finding with its reason and what to do. Bars are those of calibrations here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Literal

from smartprof.profile.keys import compare_keys
from smartprof.profile.schema import Domain, Key, ModelKey, Profile, Surface
from smartprof.profile.surface import REACH

Mark = Literal["OK", "WARN", "FAIL", "SKIP"]
WARN: Mark = "WARN"
FAIL: Mark = "FAIL"
LARGEST_BATCH, LARGEST_PASS = 16, 256  # what a calibration covers, and shipped policies stay within
OLD_DAYS = 30
# In percent, by kind of device: fine up to the first, not to be used above the second.
NOISE_BARS = {"cpu": (2.0, 10.0), "cuda": (1.0, 5.0)}
ERROR_BARS = {"cpu": (6.0, 15.0), "cuda": (3.0, 10.0)}
REPEAT_BARS = {"cpu": (8.0, 20.0), "cuda": (3.0, 10.0)}  # 95th percentile of two sweeps
REGRET_BARS = (1.0, 5.0)
AGAIN = "calibrate again"
ADVICE = {
    "measured": f"{AGAIN} with --mode full on a quiet machine",
    "imported": "time its points again, more often or on a quieter machine",
    "analytic": "calibrate on the device",
}
# What a profile says where its seconds came without: nothing can differ from that.
UNSTATED = (None, "not stated")


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, how it is, and in words why and what to do."""

    name: str
    mark: Mark
    text: str


def check_complete(profile: Profile) -> list[Finding]:
    """All quantities, and ranges as wide as the shipped policies need them."""
    return [_quantities(profile), _range(profile.verify.domain), *_reaches(profile)]


def check_stable(profile: Profile) -> list[Finding]:
    """Noise, errors, what the calibration itself warned of."""
    quality, kind = profile.quality, profile.key.device.kind
    figure = partial(_figure, ADVICE[profile.provenance.kind])
    found = [
        _origin(profile),
        figure("noise", "noise floor", quality.noise_floor_pct, NOISE_BARS[kind]),
        figure("error", "mean held-out error", quality.held_out.mean_abs_pct, ERROR_BARS[kind]),
    ]
    if quality.repeatability:
        p95 = quality.repeatability.p95_pct
        found.append(figure("repeat", "two sweeps differ by (p95)", p95, REPEAT_BARS[kind]))
    if quality.regret:
        mean = quality.regret.mean_pct
        found.append(figure("regret", "estimated regret of decisions", mean, REGRET_BARS))
    return found + [Finding("warning", "WARN", x) for x in quality.warnings]


def check_recent(profile: Profile, now: datetime) -> Finding:
    """How long ago it was made; now: with its time zone."""
    days = (now - datetime.fromisoformat(profile.created)).total_seconds() / 86_400
    made = f"made {profile.created}"
    if days < 0:
        return Finding("age", "WARN", f"{made}, which is to come: set this machine's clock")
    if days > OLD_DAYS:
        return Finding(
            "age", "WARN", f"{made}, {days:.0f} days ago: see whether it holds with --on-device"
        )
    return Finding("age", "OK", f"{made}, {'today' if days < 1 else f'{days:.0f} days ago'}")


def check_device(
    profile: Profile,
    device: Mapping[str, Any],
    software: Mapping[str, Any],
    unread: Mapping[str, str],
) -> list[Finding]:
    """Whether it is of this device and software.

    device, software: fields of a key as they are here; those in `unread` are not compared, for the
    reason given there.
    """
    key = profile.key
    left_out = dict(unread)
    if profile.provenance.kind != "measured":
        left_out |= {x: "the profile does not tell" for x in _unstated(key, device, software)}
    stated = {
        part: {x: y for x, y in fields.items() if f"{part}.{x}" not in left_out}
        for part, fields in (("device", device), ("software", software))
    }
    here = key.model_copy(
        update={
            "device": key.device.model_copy(update=stated["device"]),
            "software": key.software.model_copy(update=stated["software"]),
        }
    )
    same = Finding("device", "OK", f"{key.device.name}, with the software that is here")
    findings = differences(profile, here) or [same]
    texts = [f"{_words(x)} ({y})" for x, y in left_out.items() if x not in unread or _told(key, x)]
    if texts:
        findings.append(Finding("unread", "SKIP", f"not compared: {', '.join(texts)}"))
    return findings


def check_target(profile: Profile, target: ModelKey | None) -> list[Finding]:
    """Whether it is of this target; None: nobody asked."""
    own = profile.key.target
    if target is None:
        return [Finding("target", "SKIP", f"{own.name}: name yours with --target to compare")]
    here = profile.key.model_copy(update={"target": target})
    return differences(profile, here) or [Finding("target", "OK", own.name)]


def differences(profile: Profile, here: Key) -> list[Finding]:
    """What the differences between the profile's key and that of what is here do."""
    match = compare_keys(profile.key, here)
    elsewhere = f"its seconds hold there, not here: {AGAIN}"
    doubt = "see whether it holds with --on-device"
    return [
        Finding(_part(line), mark, f"{line}: {advice}")
        for lines, mark, advice in (
            (match.modelled, FAIL, elsewhere),
            (match.refused, FAIL, AGAIN),
            (match.warnings, WARN, doubt),
        )
        for line in lines
    ]


def _quantities(profile: Profile) -> Finding:
    drafters = ", ".join(sorted(profile.drafters))
    if drafters:
        return Finding("quantities", "OK", f"all five; drafters: {drafters}")
    return Finding(
        "quantities",
        "FAIL",
        "no draft_step and draft_catchup, so nothing but plain decoding has a price: calibrate "
        "with --drafter",
    )


def _range(domain: Domain) -> Finding:
    batches, contexts = domain.batch or (1, 1), domain.context or (0, 0)
    text = (
        f"batch {batches[0]}-{batches[1]}, passes of {domain.size[0]}-{domain.size[1]} tokens, "
        f"contexts {contexts[0]}-{contexts[1]}"
    )
    if batches[0] == 1 and batches[1] >= LARGEST_BATCH and domain.size[1] >= LARGEST_PASS:
        return Finding("range", "OK", text)
    return Finding(
        "range",
        "WARN",
        f"{text}: expected batch 1-{LARGEST_BATCH} and passes to {LARGEST_PASS} tokens for shipped "
        f"policies; beyond is extrapolated, and refused from a factor of {REACH:g}",
    )


def _reaches(profile: Profile) -> Iterator[Finding]:
    """Quantities that end before the verify passes do."""
    short: list[str] = []
    shorter: list[str] = []
    for name, surface in _others(profile):
        for axis, have, want in _tops(name, surface, profile.verify.domain):
            if have < want:
                which = shorter if have * REACH < want else short
                which.append(f"{name} to {axis} {have} of {want}")
    if shorter:
        text = f"{'; '.join(shorter)}: rounds beyond a factor of {REACH:g} have no price: {AGAIN}"
        yield Finding("coverage", "FAIL", text)
    if short:
        yield Finding("coverage", "WARN", f"{'; '.join(short)}: extrapolated from there on")
    if not short and not shorter:
        yield Finding("coverage", "OK", "every quantity reaches as far as the verify passes")


def _others(profile: Profile) -> Iterator[tuple[str, Surface]]:
    yield "plain_decode", profile.plain_decode
    yield "round_overhead", profile.round_overhead
    for drafter, costs in sorted(profile.drafters.items()):
        yield f"draft_step ({drafter})", costs.draft_step
        yield f"draft_catchup ({drafter})", costs.draft_catchup


def _tops(name: str, surface: Surface, verify: Domain) -> Iterator[tuple[str, int, int]]:
    """Axis, how far it reaches, and how far verify does; a catch-up takes in few tokens."""
    have = surface.domain
    if have.batch and verify.batch:
        yield "batch", have.batch[1], verify.batch[1]
    if have.context and verify.context:
        yield "context", have.context[1], verify.context[1]
    if name == "plain_decode" and verify.batch:
        yield "batch", have.size[1], verify.batch[1]
    elif not name.startswith(("plain_decode", "draft_catchup")):
        yield surface.size_axis, have.size[1], verify.size[1]


def _origin(profile: Profile) -> Finding:
    kind = profile.provenance.kind
    if kind == "measured":
        return Finding("provenance", "OK", kind)
    note = f" ({profile.provenance.note})" if profile.provenance.note else ""
    return Finding("provenance", "WARN", f"{kind}, not measured by this program{note}")


def _figure(
    advice: str, name: str, words: str, value: float | None, bars: tuple[float, float]
) -> Finding:
    if value is None:
        return Finding(name, "WARN", f"{words}: not known, nothing was measured for it")
    text = f"{words} {value:.1f} %"
    if value <= bars[0]:
        return Finding(name, "OK", text)
    mark = WARN if value <= bars[1] else FAIL
    return Finding(name, mark, f"{text}, expected at most {bars[0]:g} %: {advice}")


def _part(line: str) -> str:
    return line.split(" ", 1)[0].removesuffix(":")


def _words(field: str) -> str:
    return field.replace("_", " ").replace(".", " ")


def _unstated(key: Key, device: Mapping[str, Any], software: Mapping[str, Any]) -> Iterator[str]:
    """Fields that are here and of which the profile says nothing."""
    for part, fields in (("device", device), ("software", software)):
        for name, value in fields.items():
            if value is not None and not _told(key, f"{part}.{name}"):
                yield f"{part}.{name}"


def _told(key: Key, field: str) -> bool:
    """Whether the profile says anything of the field."""
    part, _, name = field.partition(".")
    return getattr(getattr(key, part), name) not in UNSTATED
