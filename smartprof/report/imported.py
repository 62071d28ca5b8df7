"""What an import made, in lines."""

from __future__ import annotations

from smartprof.profile.schema import Profile


def imported_lines(profile: Profile, rows: int) -> list[str]:
    """What the profile holds for and covers, what it rests on, and what is doubtful."""
    key, domain = profile.key, profile.verify.domain
    batches, contexts = (
        "-" if x is None else f"{x[0]}" if x[0] == x[1] else f"{x[0]} to {x[1]}"
        for x in (domain.batch, domain.context)
    )
    return [
        f"{key.target.name} ({key.dtype}, {key.execution}) on {key.device.name}: imported, "
        f"{profile.quality.shapes} points of {rows} rows; verify passes of {domain.size[0]} to "
        f"{domain.size[1]} tokens, batch {batches}, context {contexts}; drafters: "
        f"{', '.join(profile.drafters) or 'none'}",
        *profile.provenance.note.split("; "),
        *(f"warning: {x}" for x in profile.quality.warnings),
    ]
