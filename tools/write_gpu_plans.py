"""Writes docs/gpu-plans.md from the analytic profiles: `make docs`."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

TARGET = Path(__file__).parents[1] / "docs" / "gpu-plans.md"
RUN = "from smartprof.cli import run; run()"
DEVICES = {"A100": "a100.json", "L40S": "l40s.json", "H200": "h200.json"}
# Draft tokens accepted per round of 7 drafted: 12,208 in 4,816 rounds.
CHAIN = ("--acceptance", "length:2.535/7")
TREE = ("--family", "tree", "--acceptance", "synthetic:0.74+0.1+0.04")
EXPLAINED = ("--explain", "32", "2048")
PREAMBLE = """# Plans for three GPUs that nobody has measured here

Written by `make docs` from `profiles/a100.json`, `l40s.json` and `h200.json`. These profiles are **analytic**: estimated from data sheets by the formulas of [`estimate.md`](estimate.md), for Llama-3.1-8B in bfloat16 with an EAGLE-3 head. Nothing below was measured on a GPU. The tables stand as they came out; nothing was smoothed or made monotone.

Two acceptances:

- **Chains**, by a published figure: vLLM with `yuhuili/EAGLE3-LLaMA3.1-Instruct-8B` accepted 12,208 draft tokens in 4,816 rounds of 7 (greedy, 80 prompts of MT-Bench, [vLLM issue 26191](https://github.com/vllm-project/vllm/issues/26191)), 2.535 per round. One length is read as one rate at every depth, 0.744.
- **Trees**, by an **assumption**: 0.74 for the most probable child, as in the chain, 0.1 for the second and 0.04 for the third. Nobody counted the last two for this head.

Why longer drafts pay at some batches and not at the next: by these estimates a pass costs nearly the same until the products of all requests together fill a tile, and then a step more. Where B requests of K + 1 tokens end just below a step, the draft is long; where they would cross it, shorter. Longer contexts make the part of a pass that does not grow with the tree larger, so they favour drafts.

Any one decision is explained by `--explain BATCH CONTEXT` added to the command; one stands at the end of each section.
"""  # noqa: E501 - paragraphs of Markdown


def page() -> str:
    """The whole page."""
    parts = [PREAMBLE]
    for device, profile in DEVICES.items():
        parts.append("\n".join(_section(device, profile)))
    return "\n".join(parts)


def _section(device: str, profile: str) -> Iterator[str]:
    yield f"## {device} (analytic)\n"
    for options in (CHAIN, TREE, (*TREE, *EXPLAINED)):
        arguments = ("plan", "--profile", profile, *options)
        yield f"```\n$ smartprof {shlex.join(arguments)}\n{_output(arguments)}\n```\n"


def _output(arguments: Sequence[str]) -> str:
    """What the command prints, without blanks at the ends of lines."""
    command = [sys.executable, "-c", RUN, *arguments]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout
    return "\n".join(x.rstrip() for x in text.strip().splitlines())


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
