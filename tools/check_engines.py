"""Hold the exports against the engines' own code: `make check-engines`.

Downloads the released wheels of vLLM and SGLang and llama.cpp's source out of llama-cpp-python (a
few hundred megabytes, kept in build/engines), takes single modules or functions out of the wheels,
and asks those what they choose for every batch to 512. Their heavy imports are replaced by
stand-ins; no engine is installed. Not part of the tests.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
import tarfile
import tempfile
import venv
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any
from zipfile import ZipFile

from smartprof.exports.base import ExportRequest
from smartprof.exports.sglang_sps import step_seconds
from smartprof.exports.table import find_exporter
from smartprof.planning.sources.vllm import PREFIX
from tests.serving import ALL, LAST, planned, request, server_profile
from tests.test_exports import trtllm_rule

FOLDER = Path(__file__).parents[1] / "build" / "engines"
WHEELS = {"vllm": "0.33.0", "sglang": "0.5.23"}
LLAMA_CPP = "0.3.36"  # of llama-cpp-python, whose source holds llama.cpp's
HELPERS = ("msgspec",)  # what SGLang's table of costs needs
NOT_CHECKED = (
    "TensorRT-LLM's loader (its wheel needs CUDA to import): its look-up is restated in "
    "tests/test_exports.py, under both meanings of the keys",
    "llama.cpp's parser: its option names are looked for in its source",
    "that a server starts with any of these files: no GPU here",
)


class Mismatch(Exception):
    """An engine does otherwise than its exporter thinks."""


def wheel(engine: str) -> ZipFile:
    """The released wheel, downloaded once."""
    return ZipFile(download(f"{engine}=={WHEELS[engine]}", "--only-binary"))


def download(requirement: str, kind: str) -> Path:
    """A release by name==version; kind: pip's option that says wheel or source."""
    folder = FOLDER / "wheels"
    pattern = f"{requirement.replace('-', '_').replace('==', '-')}*"
    if not any(folder.glob(pattern)):
        print(f"downloading {requirement}", flush=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", kind, ":all:"]
        subprocess.run([*pip, "-d", str(folder), requirement], check=True)
    return next(iter(folder.glob(pattern)))


def add_helpers() -> None:
    """Put small packages that an engine's module imports on the path, from an environment here."""
    home = FOLDER / "venv"
    if not (home / ".installed").exists():
        venv.create(home, with_pip=True)
        subprocess.run(
            [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", *HELPERS], check=True
        )
        (home / ".installed").touch()
    sys.path += map(str, home.glob("lib/python*/site-packages"))


def load(archive: ZipFile, member: str, stand_ins: dict[str, dict[str, Any]]) -> ModuleType:
    """One module out of a wheel; stand_ins: names that it imports, by module."""
    for name, members in stand_ins.items():
        parts = name.split(".")
        for depth in range(1, len(parts) + 1):
            module = sys.modules.setdefault(".".join(parts[:depth]), ModuleType(parts[depth - 1]))
        vars(module).update(members)
    path = Path(archive.extract(member, FOLDER / "modules"))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def function(archive: ZipFile, member: str, name: str, given: dict[str, Any]) -> Callable[..., Any]:
    """One function out of a module that cannot be imported; given: the names that it uses."""
    tree = ast.parse(archive.read(member))
    found = [x for x in ast.walk(tree) if isinstance(x, ast.FunctionDef) and x.name == name]
    if len(found) != 1:
        raise Mismatch(f"{member}: expected one function {name}, got {len(found)}")
    found[0].returns = None
    for argument in found[0].args.args:
        argument.annotation = None
    scope = dict(given)
    exec(compile(ast.Module([found[0]], []), member, "exec"), scope)
    loaded: Callable[..., Any] = scope[name]
    return loaded


def require(condition: bool, what: str) -> None:
    """Raise Mismatch, or print what holds."""
    if not condition:
        raise Mismatch(what)
    print(f"checked: {what}")


def require_choices(
    look_up: Callable[[int], int], asked: ExportRequest, sizes: Iterable[int], engine: str
) -> None:
    """Batch by batch against the plan."""
    expected = planned(asked, list(sizes))
    wrong = [x for x in ALL if look_up(x) != expected[x]]
    if wrong:
        batch = wrong[0]
        raise Mismatch(
            f"{engine}: batch {batch}: the plan says {expected[batch]}, the engine "
            f"{look_up(batch)}; {len(wrong)} batches differ"
        )
    lengths = sorted(set(expected.values()))
    require(True, f"{engine} chooses what the plan says at batch 1 to {LAST} (lengths {lengths})")


def check_vllm(ragged: bool) -> None:
    """Validator, dense look-up, graph sizes, and the names of its configuration and counters."""
    archive, exporter = wheel("vllm"), find_exporter("vllm")
    asked = request(server_profile(ragged=ragged))
    content = json.loads(exporter.export(asked).content)
    module = load(archive, "vllm/v1/spec_decode/dynamic/utils.py", {})
    ranges = content["num_speculative_tokens_per_batch_size"]
    normal = module.validate_and_normalize_dynamic_sd_schedule(ranges)
    require([list(x) for x in normal] == ranges, "vLLM's validator takes the schedule as it is")
    dense = module.build_dynamic_sd_schedule_lookup(ranges, LAST, content["num_speculative_tokens"])
    counts = function(
        archive, "vllm/config/vllm.py", "request_counts", {"default_max_graph_size": LAST}
    )(LAST)
    require_choices(lambda x: int(dense[x]), asked, counts, "vLLM")
    fields = _fields(archive, "vllm/config/speculative.py", "SpeculativeConfig")
    require(set(content) <= fields, f"vLLM's SpeculativeConfig has the fields {sorted(content)}")
    source = archive.read("vllm/config/speculative.py").decode()
    methods = sorted(set(exporter.kinds.values()))
    require(all(f'"{x}"' in source for x in methods), f"vLLM knows the methods {methods}")
    metrics = archive.read("vllm/v1/spec_decode/metrics.py").decode()
    names = [f"{PREFIX}{x}" for x in ("drafts", "draft_tokens", "accepted_tokens_per_pos")]
    require(all(f'"{x}"' in metrics for x in names), f"vLLM counts {', '.join(names)}")


def _fields(archive: ZipFile, member: str, name: str) -> set[str]:
    classes = (x for x in ast.walk(ast.parse(archive.read(member))) if isinstance(x, ast.ClassDef))
    body = next(x for x in classes if x.name == name).body
    return {
        x.target.id for x in body if isinstance(x, ast.AnnAssign) and isinstance(x.target, ast.Name)
    }


def check_sglang(ragged: bool) -> None:
    """The adaptive policy behind padding to graphs, the graph sizes, and the options' names."""
    archive = wheel("sglang")
    asked = request(server_profile(ragged=ragged))
    nothing = {"resolved_view": None, "resolving_view": None}
    module = load(
        archive,
        "sglang/srt/speculative/adaptive_spec_params.py",
        {
            "sglang.srt.arg_groups.overrides": nothing,
            "sglang.srt.runtime_context": {"attn_dp_enabled_of": None},
            "sglang.srt.speculative.spec_info": {"SpeculativeAlgorithm": None},
            "sglang.srt.utils": {"log_info_on_rank0": lambda logger, text: None},
        },
    )
    sizes = _sglang_graphs(archive)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        exported = find_exporter("sglang").export(replace(asked, path=Path(file.name)))
        file.write(exported.content)
        file.flush()
        steps = int(exported.command.split("--speculative-num-steps ")[1].split()[0])
        require(
            steps in module.resolve_candidate_steps_from_config(file.name),
            "SGLang's start is one of its candidates",
        )
        params = module.AdaptiveSpeculativeParams(steps, file.name)
    params.set_cuda_graph_bs(sizes)
    for batch in ALL:  # whatever is accepted, a tier of one candidate stays
        for _ in range(40):
            params.on_verify_complete([batch % 7], batch)
    require_choices(params.get_steps_for_batch, asked, sizes, "SGLang, after 40 rounds of each,")
    options = "".join(
        archive.read(f"sglang/srt/arg_groups/fields/{x}.py").decode()
        for x in ("spec", "exec_", "schedule")
    )
    static = find_exporter("sglang-static").export(replace(asked, batch=4))
    words = exported.command.split() + static.content.split()
    flags = {x.lstrip("-").rstrip(":").replace("-", "_") for x in words if _is_option(x)}
    missing = sorted(x for x in flags if f"{x}:" not in options)
    require(not missing, f"SGLang has the options {', '.join(sorted(flags))} (missing: {missing})")


def _is_option(word: str) -> bool:
    named = word.startswith("--") or (word.startswith("speculative-") and word.endswith(":"))
    return named and word not in ("--model-path",)


def _sglang_graphs(archive: ZipFile) -> list[int]:
    """Of a server that speculates, by its own function."""

    class View:
        disable_cuda_graph_padding = False
        speculative_algorithm = "EAGLE3"

    found: list[int] = function(
        archive,
        "sglang/srt/arg_groups/cuda_graph_hook.py",
        "generate_decode_cuda_graph_batch_sizes",
        {"resolving_view": lambda arguments: View},
    )(None, LAST)
    return found


def check_sps() -> None:
    """SGLang's own table against the profile's seconds."""
    add_helpers()
    module = load(wheel("sglang"), "sglang/srt/speculative/dspark_components/dspark_sps.py", {})
    asked = request(server_profile())
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(find_exporter("sglang-sps").export(asked).content)
        file.flush()
        table = module.load_sps_table_from_path(file.name)
    wanted = step_seconds(asked.costs, table.bs_probes, table.m_probes, asked.context)
    errors = [
        abs(table.step_time(num_reqs=batch, budget=tokens - batch) / wanted[x, y] - 1)
        for x, batch in enumerate(table.bs_probes)
        for y, tokens in enumerate(table.m_probes)
        if tokens >= batch
    ]
    require(max(errors) < 1e-6, "SGLang's SPS table gives a profile's sums back")


def check_trtllm(ragged: bool) -> None:
    """By the restated rule, under both meanings of its keys."""
    asked, exporter = request(server_profile(ragged=ragged)), find_exporter("trtllm")
    content = exporter.export(asked).content
    sizes = [1, 2, 4, *range(8, 129, 8), 256, 512]
    for upper in (True, False):
        meaning = "largest" if upper else "smallest"
        look_up = trtllm_rule(content, upper)
        require_choices(look_up, asked, sizes, f"TensorRT-LLM's restated rule, {meaning} batches,")


def check_transformers() -> None:
    """The installed GenerationConfig knows every key but our own."""
    import transformers

    for kind in ("lm", "ngram"):
        asked = request(server_profile(kind), max_batch=1)
        content = json.loads(find_exporter("transformers").export(asked).content)
        config = transformers.GenerationConfig()
        unused = config.update(**content)
        config.validate()
        keys = sorted(x for x in content if not x.startswith("_"))
        require(
            set(unused) == {"_smartprof"},
            f"transformers {transformers.__version__} knows {', '.join(keys)}",
        )


def check_llamacpp() -> None:
    """Option names and drafters, in the source that llama-cpp-python vendors."""
    requirement = f"llama-cpp-python=={LLAMA_CPP}"
    with tarfile.open(download(requirement, "--no-binary")) as archive:
        sources = {
            Path(x.name).name: archive.extractfile(x).read().decode()  # type: ignore[union-attr]
            for x in archive.getmembers()
            if x.name.endswith(("vendor/llama.cpp/common/arg.cpp", "common/speculative.cpp"))
        }
    exporter = find_exporter("llamacpp")
    for kind, drafter in exporter.kinds.items():
        words = exporter.export(request(server_profile(kind), max_batch=16)).content.split()
        options = [x for x in words if x.startswith("--")]
        known = all(f'"{x}"' in sources["arg.cpp"] for x in options)
        known = known and f'{{"{drafter}"' in sources["speculative.cpp"]
        require(known, f"llama.cpp's source has {drafter} and {', '.join(options)}")


def main() -> int:
    """Run all checks; 1 if an engine does otherwise."""
    try:
        for ragged in (False, True):
            check_vllm(ragged)
            check_sglang(ragged)
            check_trtllm(ragged)
        check_sps()
        check_transformers()
        check_llamacpp()
    except Mismatch as mismatch:
        print(f"MISMATCH: {mismatch}")
        return 1
    for sentence in NOT_CHECKED:
        print(f"not checked: {sentence}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
