"""How well calibrated path probabilities hold on prompts that they were not fitted to.

    python benchmarks/calibration.py --profile xeon-2t-smollm2.json --drafter ngram

Decodes the bundled development prompts and fits the acceptance of the drafter; then decodes the
held-out ones from that, frozen. Prints the expected calibration errors of both splits: of the
conditional probabilities as the drafter states them and calibrated, over all proposals below the
target's path, and of the path probabilities of the nodes that each policy verified. --drafter,
--policy and --batch as for ``smartprof decode``. Seconds play no part, except that `smart` goes by
those of the profile. Few prompts say little: see the line on what right probabilities would show.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.progress import Progress

from smartprof.commands import DecodeReport, DecodeRequest, decode_report
from smartprof.decode.acceptance import AcceptanceRequest
from smartprof.decode.sampling import Sampling
from smartprof.format import percent_text
from smartprof.profile.acceptance import AcceptanceFile, save_acceptance
from smartprof.trees.reliability import NO_EVENTS, Reliability

BAR_PCT = 3.0  # expected calibration error on the held-out split


def main() -> None:
    """Parse, fit on development, judge on held-out."""
    arguments = parse()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.save or Path(folder) / "acceptance.json"
        fitted = _decode(arguments, "development", AcceptanceRequest(save=path))
        assert fitted.acceptance is not None
        save_acceptance(fitted.acceptance, path, force=True)
        judging = AcceptanceRequest(path, freeze=True, save=Path(folder) / "judged.json")
        judged = _decode(arguments, "held-out", judging)
    assert judged.acceptance is not None
    print_errors(judged.acceptance)
    print_policies(judged)
    selected = sum((x.acceptance.selected for x in judged.lanes if x.acceptance), NO_EVENTS)
    print_reliability(selected)
    if selected.error is None or selected.noise is None:
        print("no node was verified on the held-out split")
        return
    error, noise = 100 * selected.error, 100 * selected.noise
    print(f"held-out, path probabilities of all verified nodes: {percent_text(error)}")
    print(f"right probabilities would show {percent_text(noise)} with as many independent nodes")
    print(f"{'within' if error <= BAR_PCT else 'ABOVE'} the bar of {BAR_PCT:g} %")


def parse(command: Sequence[str] | None = None) -> argparse.Namespace:
    """The options, of the command line unless told otherwise."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--profile", required=True)
    parser.add_argument("--drafter", default="auto")
    parser.add_argument("--target", default="smollm2")
    parser.add_argument("--gpu", default="auto")
    parser.add_argument("--policy", default="smart,eagle2:m=16")
    parser.add_argument("--batch", default="1,8")
    parser.add_argument("--per-category", type=int, default=None)
    parser.add_argument("--max-new-tokens", type=int, default=96)
    parser.add_argument("--save", type=Path, default=None, help="keep the acceptance file here")
    return parser.parse_args(command)


def _decode(
    arguments: argparse.Namespace, split: str, acceptance: AcceptanceRequest
) -> DecodeReport:
    """Decode one split of the bundled prompts, greedily, all categories mixed."""
    request = decode_request(arguments, split, acceptance)
    with Progress(disable=True) as progress:
        return decode_report(request, lambda x: print(x, file=sys.stderr), progress)


def decode_request(
    arguments: argparse.Namespace, split: str, acceptance: AcceptanceRequest
) -> DecodeRequest:
    """What `smartprof decode` would make of it."""
    return DecodeRequest(
        profile=arguments.profile,
        policies=tuple(arguments.policy.split(",")),
        batches=tuple(int(x) for x in arguments.batch.split(",")),
        gpu=arguments.gpu,
        target=arguments.target,
        drafter=arguments.drafter,
        dtype=None,
        execution="auto",
        prompts=None,
        split=split,
        category=None,
        per_category=arguments.per_category,
        max_new_tokens=arguments.max_new_tokens,
        chat=True,
        mixed=True,
        sampling=Sampling(),
        stop=(),
        trace_size=None,
        require_measured=False,
        files=(),
        force=True,
        acceptance=acceptance,
    )


def print_errors(found: AcceptanceFile) -> None:
    """One line per source and split."""
    rows = [("source", "split", "labels", "stated", "calibrated", "nodes", "path")]
    for name, source in found.sources.items():
        for x in source.errors:
            errors = [percent_text(y) for y in (x.stated_pct, x.calibrated_pct, x.cumulative_pct)]
            rows.append((name, x.split, str(x.labels), *errors[:2], str(x.nodes), errors[2]))
    _print_rows(rows)


def print_policies(report: DecodeReport) -> None:
    """One line per policy and batch that verified drafts."""
    rows = [("policy", "batch", "nodes", "path")]
    for run in report.runs:
        if run.category is None and run.calibration_error is not None:
            error = percent_text(100 * run.calibration_error)
            rows.append((run.policy, str(run.batch), str(run.verified_nodes), error))
    _print_rows(rows)


def print_reliability(found: Reliability) -> None:
    """Path probability said and share accepted, by bins of the former."""
    rows = [("path probability", "nodes", "mean", "accepted")]
    for x in found.bins:
        bounds = f"{x.low:.2f}-{x.high:.2f}"
        rows.append((bounds, str(x.count), f"{x.mean_probability:.3f}", f"{x.share_right:.3f}"))
    _print_rows(rows)


def _print_rows(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, x)) for x in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(x.rjust(y) for x, y in zip(row, widths, strict=True)))
    print()


if __name__ == "__main__":
    main()
