"""What a cell needs on a place and whether it fits there: footprints from the plan, verdicts for each node.

A plan keeps, for each cell and backend, the footprint that its header gives under its settings. A node's verdict then
needs no header: a resumed sweep and one without network decide as the first start did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiles.backends import backend_of_name
from quants.fit.devices import footprint_key, memory_of, spread
from quants.fit.verdict import Verdict, VerdictKind, verdict, weights_verdict
from quants.footprint import Backend
from runners.engines.settings import LlamaCppSettings

if TYPE_CHECKING:
    from orchestrator.places import ServingPlace
    from profiles.types import NodeProfile
    from quants.fit.devices import Footprints
    from quants.footprint import Footprint
    from quants.gguf import Header
    from runners.engines.settings import EngineSettings


def backend_of(place: ServingPlace) -> Backend:
    """The backend behind the engine's names of the devices: `CUDA0`, `Vulkan1`, `CPU`.

    One that is not known counts as CUDA, whose driver takes the most: an estimate may refuse, not promise.
    """
    name = backend_of_name(place.engine_device.split(",")[0])
    return Backend(name) if name in set(Backend) else Backend.CUDA


MOST_SPREAD = 8
"""The most GPUs that `devices = "all"` is planned for; a machine with more is judged by the size of the file."""


def footprints_of(header: Header, engine: EngineSettings) -> Footprints:
    """The footprints of a model under `engine` by `footprint_key`: on one device of each backend that could serve it,
    or spread over as many as the settings say.
    """
    from quants.footprint import Estimator, settings_for

    if not isinstance(engine, LlamaCppSettings):
        return {}
    wanted = [(Backend.CPU, 1)]
    if engine.gpu_layers != 0:
        counts = range(1, MOST_SPREAD + 1) if engine.devices == "all" else [engine.devices or 1]
        gpus = (Backend.CUDA, Backend.ROCM, Backend.VULKAN, Backend.METAL)
        wanted += [(backend, count) for backend in gpus for count in counts]
    estimator = Estimator(header)
    found = {}
    for backend, count in wanted:
        try:
            found[footprint_key(backend.value, count)] = estimator(settings_for(engine, backend, gpus=count))
        except ValueError:  # settings that this backend refuses: the engine will say so in its own words
            continue
    return found


def footprint_on(footprints: Footprints, place: ServingPlace, engine: EngineSettings) -> Footprint | None:
    """What the cell needs on the devices of the place; None where that was not estimated."""
    found = footprints.get(footprint_key(backend_of(place).value, len(place.devices)))
    shares = place.tensor_split(engine)
    if found is None or shares is None or not isinstance(engine, LlamaCppSettings):
        return found
    return spread(found, shares, engine.split_mode or "layer")


def verdict_on(
    footprints: Footprints, file_bytes: int, profile: NodeProfile, place: ServingPlace, engine: EngineSettings
) -> Verdict:
    """Whether the cell fits the place now; by the file's size alone where its footprint is not known."""
    footprint = footprint_on(footprints, place, engine)
    if footprint is not None and footprint.known:
        return verdict(footprint, memory_of(profile, place.devices))
    found = weights_verdict(file_bytes, place.memory_total_bytes)
    if footprint is not None and footprint.reason and found.kind is VerdictKind.UNKNOWN:
        return Verdict(found.kind, f"{found.reason} ({footprint.reason})", found.headroom_bytes)
    return found
