"""Train an EAGLE-3 draft head for any target that smartprof loads.

    python tools/train_eagle3.py data  --target smollm2 --out data/short --longest 72 --minutes 40
    python tools/train_eagle3.py train --target smollm2 --data data/short --out head --steps 1500
    python tools/train_eagle3.py evaluate --target smollm2 --head head

`data` lets the target answer instructions (`eagle3_training/seeds.toml`, texts under --material)
and keeps its features and top probabilities; `train` fits a head on its own rollouts; `evaluate`
decodes the bundled held-out prompts with it. `data` and `train` go on where they were stopped when
they are run again with the same options.
"""

from __future__ import annotations

import json
import sysconfig
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from eagle3_training import material
from eagle3_training.batches import Examples, draft_tokens, split
from eagle3_training.checkpoint import loaded_head, new_head, save_head
from eagle3_training.evaluate import evaluate as run_evaluation
from eagle3_training.generate import DataOptions, Generator, make_data, options_of
from eagle3_training.instructions import read_seeds
from eagle3_training.shards import (
    ShardEntry,
    ShardFolder,
    answer_texts,
    file_digest,
    read_settings,
)
from eagle3_training.train import Trainer, TrainOptions
from eagle3_training.train import train as fit

from smartprof.decode.prompts import bundled_prompts, select_prompts
from smartprof.device import resolve_device, set_threads
from smartprof.drafters.table import choose_drafter, drafter_maker
from smartprof.errors import InputError, SmartprofError
from smartprof.models.loading import dtype_name, load_model
from smartprof.models.weights import SINGLE_FILE, resolve_target
from smartprof.report.json_files import require_writable, write_json

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
Target = Annotated[str, typer.Option(help="As for `smartprof decode --target`.")]
Gpu = Annotated[str, typer.Option(help="auto, cpu or a GPU, as for `smartprof calibrate`.")]
Compute = Annotated[
    str | None, typer.Option("--dtype", help="float32 or bfloat16; default by device.")
]


@app.command()
def data(
    out: Annotated[Path, typer.Option(help="Folder for the data; an existing one is added to.")],
    target: Target = "smollm2",
    gpu: Gpu = "auto",
    dtype: Compute = None,
    tokens: Annotated[int, typer.Option(help="Answer tokens in the folder at which to stop.")] = (
        1 << 40
    ),
    minutes: Annotated[float, typer.Option(help="Time after which to stop.")] = 1e9,
    seed: int = 0,
    batch: Annotated[int, typer.Option(help="Requests at once.")] = 128,
    shortest: Annotated[int, typer.Option(help="Least tokens of a prompt.")] = 2,
    longest: Annotated[int, typer.Option(help="Most tokens of a prompt.")] = 256,
    answer: Annotated[int, typer.Option(help="Most tokens of an answer.")] = 128,
    shard: Annotated[int, typer.Option(help="Answers per file.")] = 256,
    folders: Annotated[
        list[Path] | None, typer.Option("--material", help="Folder with texts to ask about.")
    ] = None,
    earlier: Annotated[
        list[Path] | None,
        typer.Option("--answers-of", help="Data whose answers are texts to ask about."),
    ] = None,
) -> None:
    """Make training data: the target answers instructions and is watched."""
    model = load_model(target, resolve_device(gpu), dtype)
    tokenizer = model.tokenizer()
    texts = material.prose(folders or [])
    for folder in earlier or []:
        written = answer_texts(folder, tokenizer.eos_ids)
        texts += material.answers(tokenizer.decode(x, skip_special=True) for x in written)
    functions = material.source([Path(sysconfig.get_paths()["stdlib"]), *(folders or [])])
    print(f"material: {len(texts)} passages, {len(functions)} functions")
    options = DataOptions(seed, batch, shortest, longest, answer, shard)
    forbidden = [x.text for x in bundled_prompts()]
    generator = Generator(model, tokenizer, read_seeds(texts, functions), options, forbidden)
    end = time.monotonic() + 60 * minutes

    def report(entry: ShardEntry, rate: float) -> None:
        total = sum(x.answer_tokens for x in shards.entries)
        print(
            f"{total} answer tokens, {rate:.0f} a second; dropped {generator.dropped}", flush=True
        )

    shards = ShardFolder(out, options_of(model, options))
    make_data(generator, shards, lambda x: x >= tokens or time.monotonic() > end, report)


@app.command()
def train(
    data_folders: Annotated[list[Path], typer.Option("--data", help="Folder of data; repeatable.")],
    out: Annotated[Path, typer.Option(help="Folder of the training and, at its end, the head.")],
    steps: Annotated[int, typer.Option(help="Updates.")],
    target: Target = "smollm2",
    gpu: Gpu = "auto",
    dtype: Compute = None,
    start: Annotated[
        Path | None, typer.Option("--from", help="Head to go on from; default: the target's layer.")
    ] = None,
    draft_vocab: Annotated[int, typer.Option(help="Tokens that a new head can propose.")] = 8192,
    queries: Annotated[int, typer.Option(help="Answer tokens of an update.")] = 2048,
    rollout: Annotated[int, typer.Option(help="The head's own steps in training.")] = 4,
    rate: Annotated[float, typer.Option(help="Learning rate of norms and the last matrix.")] = 2e-3,
    matrix_rate: Annotated[float, typer.Option(help="Learning rate of the other matrices.")] = 5e-3,
    seed: int = 0,
    held: Annotated[float, typer.Option(help="Share of the data to validate with.")] = 0.02,
    every: Annotated[int, typer.Option(help="Updates between two lines of the log.")] = 50,
) -> None:
    """Fit a head on its own rollouts."""
    device = resolve_device(gpu)
    compute = dtype_name(dtype, device)
    if device.threads is not None:
        set_threads(device.threads)
    source = resolve_target(target)
    settings = [read_settings(x) for x in data_folders]
    for folder, found in zip(data_folders, settings, strict=True):
        if found["digest"] != source.shape.digest:
            raise InputError(
                f"{folder}: expected data of {source.name}, got data of {found['target']}: name "
                "the target that they were made with"
            )
    examples = Examples(data_folders)
    positions = examples.longest + rollout
    if start is None:
        draft = draft_tokens(examples.counts(source.shape.vocab), draft_vocab)
        head = new_head(source, draft, examples.spread(), positions, seed)
    else:
        head, draft = loaded_head(source, start, examples.spread(), positions)
    draft_id = torch.full((source.shape.vocab,), -1)
    draft_id[draft] = torch.arange(len(draft))
    options = TrainOptions(
        steps,
        examples.digest,
        "" if start is None else file_digest(start / SINGLE_FILE),
        queries,
        rollout,
        rate=rate,
        matrix_rate=matrix_rate,
        seed=seed,
        dtype=compute,
        every=every,
    )
    trainer = Trainer(head.to(device.torch_device), options)
    out.mkdir(parents=True, exist_ok=True)
    trainer.resume(out)
    print(f"{examples.answers.sum()} answer tokens in {len(examples.answers)} sequences")
    parts = split(len(examples.answers), held, seed)
    fit(trainer, examples, parts, draft_id, out, lambda x: print(json.dumps(x), flush=True))
    save_head(head, draft, source.shape, out / "head")
    print(f"wrote {out / 'head'}")


@app.command()
def evaluate(
    head: Annotated[str, typer.Option(help="As for `--drafter eagle3:HEAD`.")],
    out: Annotated[Path | None, typer.Option(help="Also write the figures as JSON.")] = None,
    target: Target = "smollm2",
    gpu: Gpu = "auto",
    dtype: Compute = None,
    split_name: Annotated[str, typer.Option("--split", help="development or held-out.")] = (
        "held-out"
    ),
    per_category: Annotated[int | None, typer.Option(help="Prompts of each category.")] = None,
    tokens: Annotated[int, typer.Option(help="Most tokens of an answer.")] = 128,
) -> None:
    """Decode prompts greedily with a head: accepted tokens per round, by depth and rank."""
    if out is not None:
        require_writable(out, force=False)
    model = load_model(target, resolve_device(gpu), dtype)
    make = drafter_maker(choose_drafter(f"eagle3:{head}", target), model)
    prompts = select_prompts(bundled_prompts(), split_name, None, per_category)
    figures = run_evaluation(
        model, make, prompts, tokens, lambda *x: print(*x[:2], json.dumps(x[2]), flush=True)
    )
    if out is not None:
        write_json(figures, out)


def main() -> None:
    """Run a command; what a user can mend is told in one line."""
    try:
        app()
    except SmartprofError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
