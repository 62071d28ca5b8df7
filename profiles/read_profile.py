"""Reads a smartprof device profile by the rule of SCHEMA.md. Copy this file; it needs no other.

profile = Profile(open("profile.json", encoding="utf-8").read())
seconds, tier = profile.seconds("verify", batch=4, size=22, context=300)
seconds, tokens_to_run = profile.envelope(batch=4, tokens=22, context=300)
A damaged file or a wrong request raises ValueError, a query too far outside LookupError.
"""

import hashlib
import json
import re
from bisect import bisect_left
from math import hypot

SCHEMA_VERSIONS, REACH, LONGEST_PAD = (1, 2), 4, 4096
TARGET, DRAFT = ("verify", "plain_decode", "round_overhead"), ("draft_step", "draft_catchup")


class Profile:
    """A profile whose text was checked; `content` is the whole file as plain values."""

    def __init__(self, text):
        self.content = json.loads(text, object_pairs_hook=_once, parse_constant=int)  # no NaN
        version = self.content.get("schema_version") if isinstance(self.content, dict) else None
        if type(version) is not int or version not in SCHEMA_VERSIONS:
            raise ValueError(f"expected schema_version in {SCHEMA_VERSIONS}, got {version!r}")
        if self.content.get("checksum") != _checksum(text):
            raise ValueError(f"expected checksum {_checksum(text)}, got another: damaged or edited")
        parts = [(None, TARGET, self.content)]
        parts += [(name, DRAFT, costs) for name, costs in self.content["drafters"].items()]
        self._surfaces = {(x, q): _Surface(q, y[q]) for x, names, y in parts for q in names}

    def seconds(self, quantity, batch, size, context=None, drafter=None):
        """Seconds, and "exact", "interpolated" or "extrapolated"."""
        surface = self._surfaces.get((drafter, quantity))
        if surface is None or (quantity == "plain_decode" and size != batch):
            raise ValueError(f"no {quantity} of drafter {drafter}, batch {batch}, size {size}")
        if quantity != "draft_step" and size < batch:
            raise LookupError(f"{quantity}: expected a size of {batch} or more, got {size}")
        place = surface.place(batch, size, context)
        return surface.value("seconds", *place), surface.tier(*place)

    def envelope(self, batch, tokens, context):
        """Seconds of verify + round_overhead, padded up where cheaper, and the tokens to run."""
        parts = [self._surfaces[None, x] for x in ("verify", "round_overhead")]
        most = min(LONGEST_PAD, *(x.domain["size"][1] for x in parts))
        costs = []
        for size in range(tokens, max(tokens, most) + 1):
            seconds = sum(self.seconds(x.name, batch, size, context)[0] for x in parts)
            widths = (x.value("ci_half_width", *x.place(batch, size, context)) for x in parts)
            costs.append((seconds, size, hypot(*widths)))
        floor = costs[0][0] - costs[0][2]
        return min(x[:2] for x in costs if x[1] == tokens or x[0] + x[2] < floor)


class _Surface:  # an axis that it lacks has the one value 0
    def __init__(self, name, raw):
        self.name, self.domain, self.of_batches = name, raw["domain"], name == "plain_decode"
        self.anchors = {(x["batch"] or 0, x["size"], x["context"] or 0) for x in raw["anchors"]}
        self.curves = {(x["batch"] or 0, x["context"] or 0): x["knots"] for x in raw["curves"]}
        self.batches, self.contexts = (sorted(set(x)) for x in zip(*self.curves, strict=True))

    def place(self, batch, size, context):
        asked = {"batch": batch, "size": size, "context": context}
        for axis, (low, high) in ((x, y) for x, y in self.domain.items() if y):
            low, high = (0 if axis == "context" else low / REACH), max(high, 1) * REACH
            if asked[axis] is None or not low <= asked[axis] <= high:
                raise LookupError(f"{self.name}: {axis} {asked[axis]} not in {low}..{high}")
        return tuple(value if self.domain[axis] else 0 for axis, value in asked.items())

    def tier(self, batch, size, context):
        if (batch, size, context) in self.anchors:
            return "exact"
        rows, columns = _around(self.batches, batch), _around(self.contexts, context)
        curves = [self.curves[x, y] for x in rows[:2] for y in columns[:2]]
        first, last = (min(x[end]["size"] for x in curves) for end in (0, -1))
        ends = ((self.batches, batch), ([first, last], size), (self.contexts, context))
        return "interpolated" if all(x[0] <= y <= x[-1] for x, y in ends) else "extrapolated"

    def value(self, field, batch, size, context):
        *rows, along = _around(self.batches, batch)
        *columns, across = _around(self.contexts, context)
        read = [[self._on_curve(field, x, size, y) for x in rows] for y in columns]
        return _mixed(*(_mixed(*x, along, field) for x in read), across, field)

    def _on_curve(self, field, batch, size, context):
        knots = {x["size"]: x[field] for x in self.curves[batch, context]}
        low, high, share = _around(list(knots), size)
        first, stretch = min(knots), 1 if self.of_batches else max(size / max(knots), 1)
        seconds = _mixed(knots[low], knots[high], share if stretch == 1 else 1, field)
        if field != "seconds" or first <= size or batch == self.batches[0]:
            return seconds * (stretch if field == "seconds" else 1)
        lower = self.batches[self.batches.index(batch) - 1]
        ends = [self._on_curve(field, lower, x, context) for x in (size, first)]
        return knots[first] * min(max(ends[0] / ends[1], size / first), 1)


def _around(values, position):  # the neighbours; the second's share, above 1 beyond the last two
    high = min(bisect_left(values, position), len(values) - 1)
    low = high if values[high] == position else max(high - 1, 0)
    return values[low], values[high], (position - values[low]) / (values[high] - values[low] or 1)


def _mixed(low, high, share, field):
    beyond = max(high - low, 0) * max(share - 1, 0) if field == "seconds" else 0
    return low * (1 - min(share, 1)) + high * min(share, 1) + beyond


def _once(pairs):
    if len(dict(pairs)) != len(pairs):
        raise ValueError("expected each member of an object once")
    return dict(pairs)


def _checksum(text):  # numbers travel as strings that begin with a NUL, which no profile holds
    marks = dict.fromkeys(("parse_int", "parse_float"), lambda literal: f"\0{literal}")
    rest = {x: y for x, y in json.loads(text, **marks).items() if x != "checksum"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    unmarked = re.sub(r'"\\u0000([^"]*)"', r"\1", canonical)
    return f"sha256:{hashlib.sha256(unmarked.encode()).hexdigest()}"
