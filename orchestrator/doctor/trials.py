"""One trial: the stand-in model served on one device by one engine, as a lease would, and asked one question."""

from __future__ import annotations

import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orchestrator import events as ev
from orchestrator.doctor.findings import Finding
from orchestrator.doctor.readings import judge_readings
from orchestrator.expand import expand
from orchestrator.nodes import to_cell_order
from orchestrator.places import serving_places
from orchestrator.spec import parse_spec
from quants.cache import fetch
from results.figures import count
from runners.chat import ChatError, ChatRequest, Sampling
from runners.devicelock import device_key, take
from runners.engines.base import EngineError
from runners.errors import RunnersError
from runners.exams import get_exam
from runners.hosted import HostedModel
from runners.modelfile import ModelChangedError
from runners.timing import measure

if TYPE_CHECKING:
    from collections.abc import Callable

    from profiles.types import Device, NodeProfile
    from runners.chat import ChatResult, Event
    from runners.engines.base import Served
    from runners.orders import CellOrder

QUANT: Final = "Q8_0"
TOKENS: Final = 400
WATCHED_S: Final = 1.5
"""How long the device has to compute: counters of energy move a few times a second."""
MOST_ANSWERS: Final = 12
ANSWER_S: Final = 30.0
LOAD_S: Final = 90
LOCK_S: Final = 3.0
"""How long a device that somebody uses is waited for."""
_SPEC: Final = """
name = "doctor"
seeds = [1]
exams = ["todo"]
[sampling]
max_tokens = 1024
[limits]
load_timeout_s = {load_s}
[engine]
kind = "{kind}"
context = 2048
{more}
[[models]]
name = "stand-in"
source = "builtin:stand-in"
quants = ["{quant}"]
"""


@dataclass(frozen=True, slots=True)
class Trial:
    """What is to be tried: an order as a driver would give it, and the device that it is about."""

    about: str
    order: CellOrder
    device: Device


def trials_of(kind: str, profile: NodeProfile) -> list[Trial]:
    """One for each device on which the machine's engine of that kind would serve, and one for the CPU."""
    found: dict[str, Trial] = {}
    # A model this small is fastest on one core, and a GPU needs no more to be fed.
    for more in ("threads = 1", "threads = 1\ngpu_layers = 0"):
        text = _SPEC.format(kind=kind, more=more, quant=QUANT, load_s=LOAD_S)
        plan = expand(parse_spec(text, "doctor.toml"), file="doctor.toml", text=text, base_dir=Path(), local=False)
        (cell,) = plan.cells
        for place_id, place in serving_places(cell, profile).items():
            lease = ev.StartLease("doctor", cell.cell_id, "here", place_id)
            order = to_cell_order(plan, cell, lease, run_id="doctor", profile=profile)
            found.setdefault(place_id, Trial(f"{kind} on {place_id}", order, place.devices[0]))
    return list(found.values())


def run_trial(trial: Trial) -> list[Finding]:
    """Serves, asks, reads the counters, and takes everything down again, whatever happens."""
    cancelled = threading.Event()
    waits_for: list[str] = []
    timer = threading.Timer(LOCK_S, cancelled.set)
    timer.daemon = True
    timer.start()
    try:
        key = device_key(trial.device.id, trial.device)
        lock = take(key, sweep="doctor", what="the stand-in", cancelled=cancelled, waiting=waits_for.append)
    except RunnersError as error:
        return [Finding("off", trial.about, error.message, error.hint)]
    finally:
        timer.cancel()
    if lock is None:
        holder = waits_for[-1] if waits_for else "somebody"
        return [Finding("note", trial.about, "not tried: the device is in use", f"once it is free; it has {holder}")]
    try:
        with tempfile.TemporaryDirectory(prefix="quantsweep-doctor-") as folder:
            return _serve(trial, Path(folder) / "engine.log", () if lock.descriptor is None else (lock.descriptor,))
    finally:
        lock.release()


def _serve(trial: Trial, log: Path, held: tuple[int, ...]) -> list[Finding]:
    hosted = HostedModel(
        trial.order, devices=[trial.device], log_path=log, cancelled=threading.Event(), note=lambda _text: None
    )
    found: list[Finding] = []
    artifact = trial.order.cell.artifact
    try:
        served = hosted.load(artifact, fetch(artifact), held=held)
        result = _ask(served, hosted)
        found.append(_served(trial, served, result))
        found += judge_readings(
            trial.about,
            trial.device,
            trial.order.place.engine_device,
            served,
            (hosted.load_samples, hosted.window("idle")),
        )
    except (EngineError, ModelChangedError, ChatError) as error:
        found.append(Finding("off", trial.about, error.message, error.hint))
    finally:
        try:
            hosted.unload()
        except RunnersError as error:
            found.append(Finding("off", trial.about, error.message, error.hint))
    return found


def _ask(served: Served, hosted: HostedModel) -> ChatResult:
    """The last of as many answers as the counters need to move."""
    messages = get_exam("todo").tasks()[0].messages
    sampling = Sampling(temperature=0.8, max_tokens=TOKENS)
    hosted.window("prefill")
    began_s = time.monotonic()
    seed = 1
    while True:
        request = ChatRequest(messages=messages, sampling=sampling, seed=seed, timeout_s=ANSWER_S)
        result = served.chat(request, on_event=_first_token(hosted))
        if seed >= MOST_ANSWERS or time.monotonic() - began_s >= WATCHED_S:
            return result
        seed += 1


def _first_token(hosted: HostedModel) -> Callable[[Event], None]:
    """Tells the sampler, once, that tokens come."""
    heard = threading.Event()

    def on_event(event: Event) -> None:
        if event.kind in {"text", "reasoning"} and not heard.is_set():
            heard.set()
            hosted.decoding()

    return on_event


def _served(trial: Trial, served: Served, result: ChatResult) -> Finding:
    timing = measure(result)
    tokens = (timing.answer_tokens or 0) + (timing.reasoning_tokens or 0)
    place = trial.order.place
    how = f", {place.device_match}" if place.device_match else ""
    where = f"as {place.engine_device} ({place.backend}{how})"
    rate = f" at {timing.decode_tps:,.0f} tokens/s" if timing.decode_tps else ""
    said = f"{where}: loaded in {served.load_s:.1f} s, {count(tokens, 'token')}{rate}"
    if not tokens:
        return Finding("off", trial.about, f"{said}; an empty answer", "look at the engine: it answers with nothing")
    return Finding("ok", trial.about, f"{said}, {served.engine_build}")
