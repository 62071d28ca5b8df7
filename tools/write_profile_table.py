"""Writes the table of shipped profiles in profiles/README.md: `make docs`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from markdown_tables import table

from smartprof.profile.files import load_profile
from smartprof.profile.schema import Profile

FOLDER = Path(__file__).parents[1] / "profiles"
TARGET = FOLDER / "README.md"
BEGIN = "<!-- from here to the end of the list: written by `make docs` -->"
END = "<!-- end of what `make docs` writes -->"
HEADS = ("file", "device", "target; drafters", "runs as", "batch", "tokens", "context", "rests on")


def with_table(page: str, folder: Path = FOLDER) -> str:
    """The page with what stands between the two marks written anew.

    Raises ValueError if a mark is missing.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"expected the lines {BEGIN!r} and {END!r} in {TARGET.name}")
    profiles = {x.name: load_profile(x) for x in sorted(folder.glob("*.json"))}
    return f"{before}{BEGIN}\n\n{chr(10).join(_lines(profiles))}\n\n{END}{after}"


def _lines(profiles: dict[str, Profile]) -> Iterator[str]:
    yield from table(HEADS, (_cells(x, y) for x, y in profiles.items()))
    yield ""
    yield "Each file keeps the command that made it:"
    yield ""
    for name, profile in profiles.items():
        yield f"- `{name}`: `{profile.provenance.command}`"


def _cells(name: str, profile: Profile) -> tuple[str, ...]:
    key, domain = profile.key, profile.verify.domain
    threads = "" if key.device.threads is None else f", {key.device.threads} threads"
    return (
        f"[`{name}`]({name})",
        f"{key.device.name}{threads}",
        f"{key.target.name}; {', '.join(f'`{x}`' for x in sorted(profile.drafters))}",
        f"{key.execution}, {key.dtype}",
        _range(domain.batch),
        _range(domain.size),
        _range(domain.context),
        _origin(profile),
    )


def _range(values: tuple[int, int] | None) -> str:
    return "-" if values is None else f"{values[0]} to {values[1]}"


def _origin(profile: Profile) -> str:
    day = profile.created[:10]
    if profile.provenance.kind == "analytic":
        return f"**analytic**: estimated from a data sheet on {day}, nothing measured"
    error = profile.quality.held_out.mean_abs_pct
    known = "" if error is None else f", held-out mean error {error:.1f} %"
    return f"{profile.provenance.kind} on {day}{known}"


if __name__ == "__main__":
    TARGET.write_text(with_table(TARGET.read_text(encoding="utf-8")), encoding="utf-8")
