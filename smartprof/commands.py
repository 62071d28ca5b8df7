"""What `smartprof decode` does between its options and its output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.progress import Progress

from smartprof.calibrate.run import profile_key
from smartprof.decode.acceptance import AcceptanceRequest, AcceptanceStart, acceptance_key
from smartprof.decode.learned import learned_file
from smartprof.decode.prompts import Prompt, bundled_prompts, read_prompts, select_prompts
from smartprof.decode.record import TraceSize
from smartprof.decode.requests import Progress as Answer
from smartprof.decode.run import LaneResult
from smartprof.decode.sampling import GREEDY, Sampling
from smartprof.decode.session import PLAIN, Session, Step, Workload
from smartprof.decode.stops import check_stops, text_before_stop
from smartprof.device import describe_device, resolve_device
from smartprof.drafters.base import Drafter
from smartprof.drafters.table import choose_drafter, drafter_maker
from smartprof.errors import InputError, ProfileError
from smartprof.models.execution import choose_execution, open_execution
from smartprof.models.loading import load_model
from smartprof.models.tokenizer import Tokenizer
from smartprof.models.transformer import Transformer
from smartprof.policies.table import POLICIES, make_policy
from smartprof.profile.acceptance import AcceptanceFile, load_acceptance
from smartprof.profile.cost import CostModel
from smartprof.profile.files import checksum, find_profile, load_profile
from smartprof.profile.keys import KeyMatch, compare_keys
from smartprof.profile.schema import Key, Profile
from smartprof.report.json_files import require_writable
from smartprof.report.summary import Run, summarise_runs
from smartprof.trees.recording import Recording

DEFAULT_SPLIT = "held-out"


@dataclass(frozen=True)
class DecodeRequest:
    """The options of `smartprof decode`, parsed."""

    profile: str
    policies: tuple[str, ...]
    batches: tuple[int, ...]
    gpu: str
    target: str
    drafter: str
    dtype: str | None
    execution: str
    prompts: Path | None
    split: str | None
    category: str | None
    per_category: int | None
    max_new_tokens: int
    chat: bool
    mixed: bool
    sampling: Sampling
    stop: tuple[str, ...]
    require_measured: bool
    trace_size: TraceSize | None
    files: tuple[Path, ...]
    force: bool
    acceptance: AcceptanceRequest = field(default_factory=AcceptanceRequest)


@dataclass(frozen=True)
class DecodeReport:
    """What a run found: the lines of the table, and the lanes they were made from.

    acceptance: what is to be saved of it, None if nothing was asked for.
    recording: trees at every output position, if they were asked for.
    """

    heading: str
    device_match: bool
    runs: list[Run]
    lanes: list[LaneResult]
    sampling: Sampling
    stop: tuple[str, ...]
    tokenizer: Tokenizer
    acceptance: AcceptanceFile | None
    recording: Recording | None

    def text(self, answer: Answer) -> str:
        """What a user reads of an output: no special tokens, nothing from a stop string on."""
        text = self.tokenizer.decode(answer.output, skip_special=True)
        return text_before_stop(text, self.stop)


def trace_size(trace: Path | None, width: int | None, depth: int | None) -> TraceSize | None:
    """Of the trees to record, None for none; InputError for half of what that takes."""
    if width is None and depth is None:
        return None
    if trace is None or width is None or depth is None:
        raise InputError(
            "expected --trace FILE, --trace-width and --trace-depth together, or --trace alone"
        )
    return TraceSize(width, depth)


def decode_report(
    request: DecodeRequest, say: Callable[[str], None], progress: Progress
) -> DecodeReport:
    """Load everything, decode, and summarise. Raises before decoding whatever can be known then."""
    _check(request)
    path = find_profile(request.profile)
    profile = load_profile(path)
    choice = choose_drafter(request.drafter, request.target, profile.drafters)
    costs = CostModel(profile, choice.kind)
    prompts = _prompts(request)
    if request.acceptance.start is not None:
        load_acceptance(request.acceptance.start)  # a damaged one is refused before the model loads
    device = resolve_device(request.gpu)
    choose_execution(request.execution, device.kind)
    say(describe_device(device, request.gpu))
    model = load_model(request.target, device, request.dtype)
    say(f"loaded {model.source.name} ({model.dtype}) in {model.load_seconds:.1f} s")
    execution = open_execution(request.execution, model.transformer, say)
    here = profile_key(device, model, execution)
    match = _match(profile, here, request.require_measured)
    make_drafter = drafter_maker(choice, model, execution)
    drafter = make_drafter()
    _require_drafter(profile, drafter, match)
    key = acceptance_key(drafter, choice.text, here.target, request.sampling)
    for warning in [*match.warnings, *other_kernels(profile, model.transformer, match)]:
        say(f"warning: {warning}")
    if model.dtype != "float32":
        say(f"outputs are not compared with plain decoding's in {model.dtype}: use --dtype float32")
    start = AcceptanceStart.open(request.acceptance, key, say)
    session = Session(model, costs, start.maker(make_drafter), execution)
    batches = tuple(dict.fromkeys(request.batches))
    workload = Workload(
        prompts,
        request.policies,
        batches,
        request.max_new_tokens,
        chat=request.chat,
        mixed=request.mixed,
        sampling=request.sampling,
        stop=request.stop,
    )
    lanes = []
    for lane in session.run(workload, _bar(progress)):
        lanes.append(lane)
        if progress.disable:  # no terminal, no bar: a line now and then instead
            say(f"decoded batch {lane.batch}, {lane.category}, {lane.policy}")
    return DecodeReport(
        heading=_heading(profile, here, match.device_match, prompts) + _choice_text(request),
        device_match=match.device_match,
        runs=summarise_runs(lanes, match.device_match),
        lanes=lanes,
        sampling=request.sampling,
        stop=request.stop,
        tokenizer=session.tokenizer,
        acceptance=learned_file(start, lanes, _workload_name(request, prompts))
        if request.acceptance.save
        else None,
        recording=_recorded(request, session, workload, path, _bar(progress), say),
    )


def _recorded(
    request: DecodeRequest,
    session: Session,
    workload: Workload,
    profile: Path,
    on_step: Callable[[Step], None],
    say: Callable[[str], None],
) -> Recording | None:
    """Trees at every output position, if they were asked for."""
    size = request.trace_size
    if size is None:
        return None
    say(f"recording trees of width {size.width} and depth {size.depth} at every output position")
    found = checksum(profile.read_text(encoding="utf-8"))
    return session.record(workload, size, found, on_step)


def _check(request: DecodeRequest) -> None:
    """Raise for whatever is wrong before anything is loaded."""
    for path in request.files:
        require_writable(path, request.force)
    if len(set(request.files)) < len(request.files):
        raise InputError(
            "expected different files for --json, --plot, --trace and --save-acceptance, got one "
            "twice"
        )
    if not request.policies:
        raise InputError(f"expected --policy to name one of {', '.join(POLICIES)}, got none")
    for policy in request.policies:
        make_policy(policy)
    if request.acceptance.save and set(request.policies) == {PLAIN}:
        raise InputError(
            f"expected --policy to name one that drafts with --save-acceptance, got {PLAIN} alone"
        )
    check_stops(request.stop)


def _prompts(request: DecodeRequest) -> list[Prompt]:
    own = request.prompts is not None
    prompts = read_prompts(request.prompts) if request.prompts else bundled_prompts()
    split = request.split if own or request.split else DEFAULT_SPLIT
    return select_prompts(prompts, split, request.category, request.per_category)


def _workload_name(request: DecodeRequest, prompts: Sequence[Prompt]) -> str:
    """Where acceptance was learned."""
    source = "bundled prompts" if request.prompts is None else request.prompts.name
    parts = [source, "+".join(sorted({x.split for x in prompts})), request.category]
    return ", ".join(x for x in parts if x)


def _match(profile: Profile, here: Key, require_measured: bool) -> KeyMatch:
    match = compare_keys(profile.key, here)
    if match.refused:
        raise ProfileError(
            f"the profile does not fit what was asked: {'; '.join(match.refused)}; ask for what it "
            "was measured with, or calibrate again"
        )
    if require_measured and not match.device_match:
        raise ProfileError(
            f"expected a profile measured on this device with this target ({here.device.name}, "
            f"{here.target.name}), got one of {profile.key.device.name}, "
            f"{profile.key.target.name} ({'; '.join(match.modelled)}): "
            "run `smartprof calibrate`, or leave out --require-measured for modelled figures"
        )
    return match


def other_kernels(profile: Profile, model: Transformer, match: KeyMatch) -> list[str]:
    """Whether other kernels run here than the profile was measured with, as far as it tells."""
    parts = (profile.provenance.note or "").split("; ")
    told = [x for x in parts if x.startswith("linear ")]
    if not match.device_match or not told or told == model.products.split("; "):
        return []
    return [
        "products run in other kernels than the profile's note tells: they were measured again, or "
        "on another machine; calibrate again for a profile of these"
    ]


def _require_drafter(profile: Profile, drafter: Drafter, match: KeyMatch) -> None:
    """The measured drafter is this one, if the profile is to stand for what runs here."""
    costs = CostModel(profile)
    for source in drafter.sources:
        costs.source(source)  # raises if it was not measured
        measured, here = profile.drafters[source].digest, drafter.part(source).digest
        if match.device_match and measured != here:
            raise ProfileError(
                f"the profile was measured with drafter {measured}, here is {here}: calibrate again"
            )


def _heading(profile: Profile, here: Key, device_match: bool, prompts: Sequence[Prompt]) -> str:
    splits = "+".join(sorted({x.split for x in prompts}))
    if device_match:
        return (
            f"measured: {here.target.name} on {here.device.name}, {splits} prompts; "
            f"profile {profile.provenance.kind} {profile.created}"
        )
    return (
        f"modelled: acceptance of {here.target.name} here, time of {profile.key.target.name} on "
        f"{profile.key.device.name} from its profile; nothing measured here ({splits} prompts)"
    )


def _choice_text(request: DecodeRequest) -> str:
    """How tokens were chosen, for the heading; nothing for greedy decoding as it comes."""
    settings = "" if request.sampling == GREEDY else f"; {request.sampling.describe()}"
    stops = ", ".join(repr(x) for x in request.stop)
    return settings + (f"; stop at {stops}" if stops else "")


def _bar(progress: Progress) -> Callable[[Step], None]:
    """One bar per batch and category."""
    task = progress.add_task("decoding", total=None, note="")

    def show(step: Step) -> None:
        progress.update(
            task,
            description=f"decoding: batch {step.batch}, {step.category}",
            completed=step.tokens,
            total=step.most_tokens,
        )

    return show
