"""The two kinds of models that a cell can serve: one that is files, and one that somebody else serves."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from quants.artifact import Artifact
from quants.facts import ModelFacts
from quants.footprint import Backend, DeviceFootprint, Footprint, FootprintSettings

if TYPE_CHECKING:
    from quants.fit.devices import Footprints


@dataclass(frozen=True, slots=True)
class FileModel:
    """One quant of a model that we fetch, verify and load.

    Attributes:
        name: what the spec calls it.
        artifact: its files, pinned.
        footprints: what it needs under the settings of its cell, by backend and number of GPUs
            (`quants.fit.devices.footprint_key`); empty if its header could not be read.
        facts: what its header says of it; None if it could not be read.
    """

    name: str
    artifact: Artifact
    footprints: Footprints = field(default_factory=dict)
    facts: ModelFacts | None = None

    @property
    def quant(self) -> str:
        """The label of the quant, unique within its source."""
        return self.artifact.quant

    @property
    def file_bytes(self) -> int:
        """The size of all files together."""
        return self.artifact.file_bytes

    @property
    def source(self) -> str:
        """Where the files come from, as a spec names it."""
        return self.artifact.source

    def identity(self) -> dict[str, Any]:
        """What makes two models the same: the content of their files, wherever these come from."""
        return {"artifact": self.artifact.sha256}

    def to_json(self) -> dict[str, Any]:
        """The model as a JSON object; `model_from_json` reads it back."""
        footprints = {backend: asdict(footprint) for backend, footprint in self.footprints.items()}
        return {
            "kind": "file",
            "name": self.name,
            "artifact": self.artifact.to_json(),
            "footprints": footprints,
            "facts": None if self.facts is None else asdict(self.facts),
        }


@dataclass(frozen=True, slots=True)
class EndpointModel:
    """A model that a server answers for which is not ours: it has no file, no size and needs no memory of a device.

    Attributes:
        name: what the spec calls it.
        provider: who serves it: the name of a provider, or the base URL of a server.
        model_id: what the provider calls it.
        blob_sha256: of its file of weights, in hex, of a server that says so (Ollama); empty otherwise.
        manifest_sha256: of what names all its files there: weights, template, parameters.
    """

    name: str
    provider: str
    model_id: str
    blob_sha256: str = ""
    manifest_sha256: str = ""

    @property
    def quant(self) -> str:
        """None that anybody knows of."""
        return ""

    @property
    def file_bytes(self) -> None:
        """There is no file."""
        return None

    @property
    def source(self) -> str:
        """Where the answers come from."""
        return f"{self.provider} {self.model_id}"

    def identity(self) -> dict[str, Any]:
        """What makes two models the same, as far as anybody outside can tell."""
        if self.blob_sha256:  # then it is the same wherever it is served
            return {"blob": self.blob_sha256, "manifest": self.manifest_sha256}
        return {"provider": self.provider, "model": self.model_id}

    def to_json(self) -> dict[str, Any]:
        """The model as a JSON object; `model_from_json` reads it back."""
        return {"kind": "endpoint", **asdict(self)}


Model: TypeAlias = FileModel | EndpointModel


def model_from_json(value: dict[str, Any]) -> Model:
    """What `to_json` of either kind wrote; `KeyError`, `TypeError` or `ValueError` if it is damaged."""
    kind = value["kind"]
    if kind == "endpoint":
        return EndpointModel(**{key: text for key, text in value.items() if key != "kind"})
    if kind != "file":
        msg = f"not a kind of model: {kind!r}"
        raise ValueError(msg)
    footprints = {backend: _footprint(raw) for backend, raw in value["footprints"].items()}
    facts = None if value["facts"] is None else ModelFacts(**value["facts"])
    return FileModel(value["name"], Artifact.from_json(value["artifact"]), footprints, facts)


def _footprint(raw: dict[str, Any]) -> Footprint:
    settings = {**raw["settings"], "backend": Backend(raw["settings"]["backend"])}
    if settings["tensor_split"] is not None:
        settings["tensor_split"] = tuple(settings["tensor_split"])
    devices = tuple(DeviceFootprint(**device) for device in raw["devices"])
    return Footprint(**{**raw, "settings": FootprintSettings(**settings), "devices": devices})
