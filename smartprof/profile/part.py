"""What all parts of the project's JSON files have in common."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """Frozen; unknown fields, conversions, NaN and infinity are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def utc_now() -> str:
    """The present time as files have it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def require_utc(created: str) -> str:
    """The time as given; raises ValueError if it is no UTC time."""
    try:
        offset = datetime.fromisoformat(created).utcoffset()
    except ValueError:
        offset = None
    if offset is None or offset.total_seconds() != 0:
        raise ValueError(f"expected a UTC time such as 2026-01-31T12:00:00Z, got {created!a}")
    return created
