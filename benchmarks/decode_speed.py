"""How fast the reference decoder is on this device, and where its time goes.

    python benchmarks/decode_speed.py [--repeats 7] [--tokens 128]
    python benchmarks/decode_speed.py --profile p.json --batch 1,4,8,16 [--drafter ngram,lm:DIR]

Always: plain decoding against ``transformers`` ``generate``; passes of 1 to 16 tokens beside the
device's read bandwidth; where the time of a pass of one token goes; what attention that pads
nothing saves of a pass. With a profile: `smart` against plain decoding, and at batch 1 against
``transformers`` assisted generation, with the same draft model where the drafter has one, else
with prompt lookup. --drafter as for ``smartprof decode``.

What is compared runs in turns; figures are medians, the spread is from the smallest to the largest
of the paired ratios.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM
from turns import in_turns, ratio_text

from smartprof.calibrate.synthetic import EvenDrafter, Unpriced, heaps
from smartprof.decode.prompts import bundled_prompts, select_prompts
from smartprof.decode.requests import Request
from smartprof.decode.rounds import Decoder
from smartprof.decode.session import Session, Workload
from smartprof.decode.target import Target
from smartprof.device import resolve_device
from smartprof.drafters.base import Drafter
from smartprof.drafters.table import LM, DrafterChoice, choose_drafter, drafter_maker
from smartprof.models.loading import LoadedModel, load_model
from smartprof.models.transformer import Transformer
from smartprof.policies.base import Policy
from smartprof.policies.plain import Plain
from smartprof.policies.table import make_policy
from smartprof.profile.cost import CostModel, Costs
from smartprof.profile.files import find_profile, load_profile
from smartprof.report.summary import summarise_runs
from smartprof.trees.packed import pack

TARGET = "smollm2"
PROMPT = "Explain in a few paragraphs how a sailing boat can travel against the wind."
READ_BYTES = 512 << 20
CONTEXT = 128
WIDTHS = (1, 2, 3, 4, 8, 16)
ATTENDED = (  # requests, tokens of each, context
    *((1, 1, 128), (1, 16, 128), (1, 1, 1000)),
    *((4, 1, 256), (4, 4, 256), (16, 1, 256), (16, 3, 256)),
)
LOOKUP_TOKENS = 10  # of transformers' prompt lookup: its documentation's own choice


def ours(
    model: LoadedModel,
    prompt: Sequence[int],
    tokens: int,
    drafter: Callable[[], Drafter],
    policy: str,
    costs: Costs,
) -> Callable[[], list[int]]:
    """Decode with our own loop, from prefill to the last token."""
    made = drafter()
    room = max(64, min(costs.most_tokens, 256))
    target = Target(model.transformer, 1, len(prompt) + tokens + room, made.taps)
    request = Request("benchmark", "benchmark", "benchmark", tuple(prompt), tokens)

    def run() -> list[int]:
        rule: Policy = make_policy(policy)
        decoder = Decoder(target, drafter(), rule, costs, frozenset())
        decoder.admit(request, 0)
        while not decoder.rows[0].ended:
            decoder.round()
        return decoder.rows[0].output

    return run


def theirs(
    reference: torch.nn.Module, prompt: Sequence[int], tokens: int, **options: object
) -> Callable[[], list[int]]:
    """Decode with ``generate``, greedy, the same number of tokens."""
    inputs = torch.tensor([list(prompt)])

    def run() -> list[int]:
        with torch.inference_mode():
            output = reference.generate(  # type: ignore[operator]
                inputs,
                attention_mask=torch.ones_like(inputs),
                do_sample=False,
                max_new_tokens=tokens,
                min_new_tokens=tokens,
                pad_token_id=0,
                **options,
            )
        return output[0, len(prompt) :].tolist()

    return run


def plain_against_generate(
    model: LoadedModel, reference: torch.nn.Module, tokens: int, repeats: int
) -> None:
    """Plain decoding of both, batch 1."""
    prompt = model.tokenizer().chat(PROMPT)
    runs = {
        "smartprof": ours(model, prompt, tokens, lambda: EvenDrafter(1), Plain.name, Unpriced()),
        "transformers": theirs(reference, prompt, tokens),
    }
    same = sum(x == y for x, y in zip(*(run() for run in runs.values()), strict=True))
    seconds = in_turns(runs, repeats)
    rates = {x: tokens / statistics.median(y) for x, y in seconds.items()}
    ratio = ratio_text(seconds["transformers"], seconds["smartprof"])
    print(
        f"plain, batch 1: smartprof {rates['smartprof']:.1f} tok/s, transformers generate "
        f"{rates['transformers']:.1f} tok/s, ratio {ratio}; same tokens {same} of {tokens}"
    )


def passes(model: LoadedModel, repeats: int) -> None:
    """Verify passes at batch 1 beside bare products and the time to read the weights once."""
    transformer = model.transformer
    data = torch.ones(READ_BYTES // 4)
    runs = {str(x): verify_pass(transformer, 1, x, CONTEXT) for x in WIDTHS}
    runs |= {"products": lambda: bare_products(model), "read": data.sum}
    seconds = in_turns(runs, 3 * repeats)
    weights = transformer.shape.weight_bytes(4)
    read = [x * weights / READ_BYTES for x in seconds["read"]]
    print(f"kernels: {transformer.kernels}")
    print(
        f"weights {weights / 1e6:.0f} MB; read bandwidth {_rate(weights, read)}: "
        f"floor {1e3 * statistics.median(read):.1f} ms"
    )
    for name in [str(x) for x in WIDTHS] + ["products"]:
        label = "bare products, 1 token" if name == "products" else f"verify of {name} at {CONTEXT}"
        print(
            f"{label}: {1e3 * statistics.median(seconds[name]):.1f} ms, "
            f"{_rate(weights, seconds[name])}, {ratio_text(seconds[name], seconds['1'])} of one "
            f"token's, floor over it {ratio_text(read, seconds[name])}"
        )


def verify_pass(
    transformer: Transformer, requests: int, width: int, context: int
) -> Callable[[], object]:
    """A pass over trees of so many tokens each, behind so many committed ones."""
    target = Target(transformer, requests, context + width)
    target.cache.data.normal_()
    trees = pack(
        heaps(np.full(requests, width), transformer.shape.vocab),
        np.arange(requests, requests * width),
    )
    return lambda: target.verify(trees, np.full(requests, context), requests * width)


def attention_without_padding(model: LoadedModel, repeats: int) -> None:
    """The same passes with and without it; nothing where there is none."""
    without, costs = copy.copy(model.transformer), model.transformer.layout.costs
    if costs is None or costs.ragged is None:
        return
    without.layout = replace(without.layout, costs=replace(costs, ragged=None))
    for shape in ATTENDED:
        runs = {
            "padded": verify_pass(without, *shape),
            "ragged": verify_pass(model.transformer, *shape),
        }
        seconds = in_turns(runs, 2 * repeats)
        print(
            "{} requests x {} tokens, context {}: without padding ".format(*shape)
            + f"{1e3 * statistics.median(seconds['ragged']):.1f} ms, "
            + f"{ratio_text(seconds['ragged'], seconds['padded'])} of the pass with padding"
        )


def _rate(size: int, seconds: Sequence[float]) -> str:
    return f"{size / statistics.median(seconds) / 1e9:.1f} GB/s"


@torch.inference_mode()
def bare_products(model: LoadedModel) -> None:
    """Every matrix product of a pass of one token, and nothing else."""
    inputs = {x.size[1]: torch.ones(1, x.size[1]) for x in model.transformer.linears}
    for linear in model.transformer.linears:
        linear(inputs[linear.size[1]])


def where_time_goes(model: LoadedModel) -> None:
    """Operators of a pass of one token by their own time; the rest is ours and of Python."""
    target = Target(model.transformer, 1, CONTEXT + 1)
    trees = pack(heaps(np.array([1]), model.transformer.shape.vocab), np.arange(0))
    count = 10
    start = time.perf_counter()
    for _ in range(count):
        target.verify(trees, np.array([CONTEXT]), 1)
    total = 1e6 * (time.perf_counter() - start) / count
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        for _ in range(count):
            target.verify(trees, np.array([CONTEXT]), 1)
    own = {x.key: x.self_cpu_time_total / count for x in profiler.key_averages()}
    own["own products and Python"] = max(0.0, total - sum(own.values()))
    largest = sorted(own.items(), key=lambda x: -x[1])[:8]
    text = ", ".join(f"{x.split('::')[-1]} {100 * y / total:.1f} %" for x, y in largest)
    print(f"one token, {total / 1e3:.1f} ms: {text} (operators as under the profiler)")


def smart_against_assisted(
    model: LoadedModel,
    reference: torch.nn.Module,
    make: Callable[[], Drafter],
    costs: CostModel,
    tokens: int,
    repeats: int,
    assistant: Mapping[str, object],
) -> None:
    """`smart` and transformers' assisted generation on a held-out prompt of each kind, batch 1."""
    chosen = select_prompts(bundled_prompts(), "held-out", None, 1)
    for prompt in chosen:
        ids = model.tokenizer().chat(prompt.text)
        runs = {
            "smart": ours(model, ids, tokens, make, "smart", costs),
            "plain": ours(model, ids, tokens, make, Plain.name, costs),
            "assisted": theirs(reference, ids, tokens, **assistant),
        }
        seconds = in_turns(runs, max(1, repeats // 3))
        print(
            f"batch 1, {prompt.category}: smart over plain "
            f"{ratio_text(seconds['plain'], seconds['smart'])}, over transformers' assisted "
            f"{ratio_text(seconds['assisted'], seconds['smart'])}"
        )


def assistant_of(choice: DrafterChoice) -> dict[str, object]:
    """What transformers' generate takes to draft as this drafter does, as far as it can."""
    if choice.network == LM and Path(choice.source).is_dir():
        draft = AutoModelForCausalLM.from_pretrained(choice.source, dtype=torch.float32).eval()
        return {"assistant_model": draft}
    return {"prompt_lookup_num_tokens": LOOKUP_TOKENS}


def smart_by_batch(
    model: LoadedModel,
    make: Callable[[], Drafter],
    costs: CostModel,
    batches: Sequence[int],
    tokens: int,
) -> None:
    """`smart` against plain decoding on held-out prompts of all kinds, mixed."""
    prompts = select_prompts(bundled_prompts(), "held-out", None, 2)
    session = Session(model, costs, make)
    workload = Workload(prompts, ("plain", "smart"), batches, tokens, mixed=True)
    lanes = list(session.run(workload, lambda _: None))
    for run in summarise_runs(lanes, True):
        if run.policy != "smart" or run.category is not None or run.share is None:
            continue
        share = run.share
        print(
            f"batch {run.batch}: smart over plain {run.speedup:.2f} "
            f"({run.speedup_low:.2f} to {run.speedup_high:.2f}), {run.tokens_per_second:.1f} "
            f"tok/s, draft/verify/rest {100 * share.draft:.1f}/{100 * share.verify:.1f}/"
            f"{100 * share.overhead:.1f} %, identical: {run.identical}"
        )


def main() -> None:
    """Run the comparisons that the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--profile", help="also compare `smart` under this profile")
    parser.add_argument("--drafter", default="ngram", help="drafters, separated by commas")
    parser.add_argument("--batch", default="1,4,8,16")
    options = parser.parse_args()
    device = resolve_device("cpu")
    model = load_model(TARGET, device)
    path = Path(str(model.source.path))
    reference = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    print(f"{device.name}, {device.threads} threads, torch {torch.__version__}, float32")
    plain_against_generate(model, reference, options.tokens, options.repeats)
    passes(model, options.repeats)
    where_time_goes(model)
    attention_without_padding(model, options.repeats)
    if options.profile is None:
        return
    profile = load_profile(find_profile(options.profile))
    for name in options.drafter.split(","):
        choice = choose_drafter(name, TARGET)
        make = drafter_maker(choice, model)
        costs = CostModel(profile, choice.kind)
        print(f"drafter {name}")
        assistant = assistant_of(choice)
        smart_against_assisted(
            model, reference, make, costs, options.tokens, options.repeats, assistant
        )
        batches = [int(x) for x in options.batch.split(",")]
        smart_by_batch(model, make, costs, batches, options.tokens)


if __name__ == "__main__":
    main()
