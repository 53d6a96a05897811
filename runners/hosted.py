"""The model of a lease on its device: engine, held files and sampler, loaded together and taken down together."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from runners.bounded import Closing, HungError, within
from runners.devicecheck import misplaced
from runners.engines.base import EngineError, LoadError
from runners.engines.llama_log import read_log
from runners.engines.llama_told import too_few_layers
from runners.engines.settings import LlamaCppSettings
from runners.errors import RunnersError
from runners.modelfile import HeldFiles, ModelChangedError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from profiles.sampler import Sampler
    from profiles.samples import Phase as SamplerPhase
    from profiles.samples import Samples
    from profiles.types import Device
    from profiles.window import Baseline
    from quants.artifact import Artifact
    from quants.models import EndpointModel
    from runners.engines.base import Served
    from runners.orders import CellOrder

ENGINE_STOP_S = 30.0
"""More than `ServerProcess.stop` takes at most."""
FILES_CLOSE_S = 5.0
SAMPLER_S = 30.0
"""A reading takes milliseconds, and half a second of a large model's pages: beyond this a driver hangs."""
_MISPLACED_HINT = "`quantsweep doctor` tries each device of this machine and says what is off"
UNLOAD_S = 3 * ENGINE_STOP_S + SAMPLER_S + FILES_CLOSE_S
"""How long `unload` takes at most."""


def _any_busy(devices: Sequence[Device]) -> bool | None:
    """Whether one of them computes; None if that cannot be told of any."""
    from profiles.counters.gpu import device_busy

    told = [device_busy(device) for device in devices]
    return None if all(busy is None for busy in told) else any(told)


class HostedModel:
    """Loads the model of `order` and ends it. `unload` may be called at any time, and nothing is left after it.

    Attributes:
        load_samples: the sampler's figures of the load, None for an engine that is not ours.
        cold: whether the next answer is the first since the load; None where somebody else serves the model.
    """

    def __init__(
        self,
        order: CellOrder,
        *,
        devices: Sequence[Device],
        log_path: Path,
        cancelled: threading.Event,
        note: Callable[[str], None],
    ) -> None:
        self.load_samples: Samples | None = None
        self.cold: bool | None = True
        self._order, self._log_path, self._cancelled, self._note = order, log_path, cancelled, note
        self._devices = list(devices)
        self._engine: Served | None = None
        self._files: HeldFiles | None = None
        self._sampler: Sampler | None = None

    def load(self, artifact: Artifact, model: Path, *, held: tuple[int, ...]) -> Served:
        """Starts the engine with `model`, the first file of `artifact`; `held` are the descriptors of the locks.

        Raises:
            EngineError: it did not become ready.
            ModelChangedError: a file changed while it was loaded.
        """
        from profiles.sampler import Sampler, take_baseline
        from runners.engines import get_engine

        baseline: Baseline | None = None

        def sample(pid: int) -> None:
            within(SAMPLER_S, "the sampler of the start before", self._stop_sampler)
            self._sampler = Sampler(pid, self._devices, baseline=baseline)
            within(SAMPLER_S, "the first reading of the device", self._sampler.start)

        cell, place = self._order.cell, self._order.place
        try:
            self._log_path.parent.mkdir(parents=True, exist_ok=True)
            baseline = within(SAMPLER_S, "reading the device", lambda: take_baseline(self._devices))
            self._files = HeldFiles(artifact, model)
            self._engine = get_engine(cell.engine.kind).load(
                model,
                cell.engine,
                log_path=self._log_path,
                device=place.engine_device,
                cancelled=self._cancelled,
                on_spawn=sample,
                held=held,
                visible=place.visible,
                tensor_split=place.tensor_split,
            )
            self._require_device(self._engine)
            gpus = [each for each in self._devices if each.is_gpu]
            if gpus and place.engine_device != "CPU":
                self._engine.device_busy = partial(_any_busy, gpus)
        except (OSError, HungError) as error:
            raise EngineError(f"the engine could not be started: {error}") from error
        if changed := self._files.written_to() or self._files.moved():
            raise ModelChangedError(f"{changed} changed while it was loaded")
        self.cold = self._engine.warm_up is None
        self.load_samples = self.window("idle")
        return self._engine

    def connect(self, model: EndpointModel) -> Served:
        """Has the engine ask the endpoint of `model`, of which nothing is here to be held, sampled or looked at.

        Raises:
            EngineError: it cannot be asked.
        """
        from runners.engines import get_endpoint_engine

        engine = self._order.cell.engine
        try:
            self._log_path.parent.mkdir(parents=True, exist_ok=True)
            self._engine = get_endpoint_engine(engine.kind).connect(
                model, engine, log_path=self._log_path, cancelled=self._cancelled
            )
        except OSError as error:
            raise EngineError(f"{model.source} cannot be asked: {error}") from error
        self.cold = True if self._engine.load_s else None
        return self._engine

    def _require_device(self, served: Served) -> None:
        """Raises `LoadError` if the server computes on another device than the lease's, or with fewer layers there."""
        log = "" if served.log_path is None else read_log(served.log_path)
        why = misplaced(self._devices, self._order.place.engine_device, log=log, buffers=served.buffers)
        if why is not None:
            message = f"{self._order.cell.engine.kind} was loaded, but {why}"
            raise LoadError(message, hint=_MISPLACED_HINT, reason="wrong_device")
        engine, on_gpu = self._order.cell.engine, any(device.is_gpu for device in self._devices)
        if on_gpu and self._order.place.engine_device != "CPU" and isinstance(engine, LlamaCppSettings):
            fewer = None if served.told is None else too_few_layers(engine, served.told)
            if fewer is not None:
                message = f"{engine.kind} was loaded, but {fewer}"
                raise LoadError(message, hint="set engine.gpu_layers to what it can have", reason="changed_settings")

    def written_to(self) -> Path | None:
        """The file that was written to since it was loaded, None if none was."""
        return None if self._files is None else self._files.written_to()

    def window(self, phase: SamplerPhase) -> Samples | None:
        """The figures since the last call; the next window begins in `phase`. None for an engine that is not ours."""
        sampler = self._sampler
        if sampler is None:
            return None
        try:
            return within(SAMPLER_S, "the sampler", lambda: sampler.reset(phase))
        except HungError as error:  # a driver hangs: the answers count without its figures
            self._note(f"{error}; this lease goes on without it\n")
            self._sampler = None
            return None

    def decoding(self) -> None:
        """The first token came."""
        if self._sampler is not None:
            self._sampler.mark("decode")

    def unload(self) -> None:
        """Ends the engine and all that belongs to it; what fails of this keeps nothing else from being done.

        Raises:
            RunnersError: the engine is still there, out of anybody's reach.
        """
        engine, self._engine = self._engine, None
        files, self._files = self._files, None
        closing = Closing()
        if files is not None:
            closing.add("the model's files", FILES_CLOSE_S, files.close)
        if engine is not None:
            # Each finds nothing more to do where the one before did what it should.
            closing.add("the engine, asked again", ENGINE_STOP_S, engine.stop)
            closing.add("the engine, killed", ENGINE_STOP_S, engine.kill)
            closing.add("the engine", ENGINE_STOP_S, engine.stop)
        closing.add("the sampler", SAMPLER_S, self._stop_sampler)
        for line in closing.close():
            self._note(f"while the engine was ended: {line}\n")
        if engine is not None and engine.is_alive():
            raise RunnersError(
                f"the engine (pid {engine.pid}) cannot be ended", "Only restarting the machine may help."
            )

    def _stop_sampler(self) -> None:
        sampler, self._sampler = self._sampler, None
        if sampler is not None:
            sampler.stop()
