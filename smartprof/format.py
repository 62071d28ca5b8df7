"""The one place where seconds, bytes and ratios become text."""

from __future__ import annotations

ROUNDED_UP = 999.5  # from here on three digits become a thousand of the unit


def seconds_text(seconds: float | None) -> str:
    """Seconds with a unit that keeps three digits; a dash when not measured."""
    if seconds is None:
        return "-"
    if seconds >= ROUNDED_UP:
        return f"{seconds:.0f} s"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= ROUNDED_UP * size / 1000:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def milliseconds_text(seconds: float) -> str:
    """Milliseconds to three digits, without the unit, for columns that name it."""
    milliseconds = 1e3 * seconds
    digits = max(0, 2 - int(f"{milliseconds:e}".partition("e")[2]))
    return f"{milliseconds:.{digits}f}"


def bytes_text(count: float) -> str:
    """Bytes in binary units."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"


def percent_text(value: float | None, digits: int = 1) -> str:
    """A percentage that is already in percent."""
    return "-" if value is None else f"{value:.{digits}f} %"


def ratio_text(value: float | None) -> str:
    """A speedup."""
    return "-" if value is None else f"{value:.2f}x"
