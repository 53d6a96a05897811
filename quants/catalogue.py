"""Models by short name: repository, quants, context, reasoning and sampling, from ``models.toml`` beside this module.

A catalogue of what people look for, not a gate: `hf:owner/name` works for every repository there is. What a file is and
how large is always asked of the Hub itself; nothing here replaces a header.
"""

from __future__ import annotations

import difflib
import functools
import re
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final, Literal

ReasoningSwitch = Literal["none", "always", "template", "effort", "system"]
"""How a model is told to think before it answers, or not to.

``none``: it never does. ``always``: there is no switch. ``template``: a variable of its chat template, which
llama-server sets with --reasoning on|off or `chat_template_kwargs`. ``effort``: `reasoning_effort` low, medium or high,
never off. ``system``: words in the system message.
"""

_SEPARATORS: Final = re.compile(r"[\s_:-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reasoning:
    """A model's reasoning.

    Attributes:
        switch: how it is switched.
        key: the template's variable, or the words of the system message; empty where there is neither.
        default: whether it reasons unless told otherwise; None where that could not be learnt.
    """

    switch: ReasoningSwitch
    key: str = ""
    default: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecommendedSampling:
    """Sampling that the model's makers recommend; None where they say nothing.

    Attributes:
        mode: when it holds: "all", "thinking", "instruct", "thinking, coding" ...
    """

    mode: str = "all"
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    repeat_penalty: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model of the catalogue.

    Attributes:
        name: the short name, e.g. "qwen3.5-35b-a3b".
        title: as its makers write it.
        aliases: other short names, those of the published reports and of Ollama among them.
        repo: "owner/name" on the Hugging Face Hub, of GGUF files.
        quants: labels that were seen in the repository. It may have more by now: `fits` lists what there is.
        context: tokens it was trained for natively, without scaling; None where that could not be learnt.
        reasoning: its switch; None where that could not be learnt.
        sampling: as recommended, one entry for each mode; empty where nothing could be found.
        reports: which published reports name it, and with which quant.
        source: where the facts were read.
        checked: which of them were held against a copy of that, and which could not be.
    """

    name: str
    title: str
    repo: str
    source: str
    checked: str
    aliases: tuple[str, ...] = ()
    quants: tuple[str, ...] = ()
    context: int | None = None
    reasoning: Reasoning | None = None
    sampling: tuple[RecommendedSampling, ...] = ()
    reports: tuple[str, ...] = ()

    @property
    def hub_source(self) -> str:
        """The source that a spec would name: hf:owner/name."""
        return f"hf:{self.repo}"


@functools.cache
def catalogue() -> tuple[Model, ...]:
    """Every model, in the order of the file."""
    text = resources.files("quants").joinpath("models.toml").read_text(encoding="utf-8")
    return tuple(_model(row) for row in tomllib.loads(text)["models"])


def find_model(name: str) -> Model | None:
    """The model of that name or alias, None if there is none.

    Case, spaces, underscores, colons and hyphens make no difference: "Gemma 4 31B" is gemma-4-31b.
    """
    return _by_key().get(_key(name))


def find_source(source: str) -> Model | None:
    """The model that a source of a spec stands for, as far as its text says: by short name, by repository
    (`hf:owner/name[@revision]`), or by the name of a file or folder that is called like a model; None where it says
    nothing.
    """
    text = source.strip()
    if text.startswith("hf:"):
        repo = text.removeprefix("hf:").removeprefix("//").partition("@")[0]
        return next((model for model in catalogue() if model.repo.casefold() == repo.casefold()), None)
    name = text.rstrip("/").rpartition("/")[2]
    return find_model(name[:-5] if name.lower().endswith(".gguf") else name)


def nearest_names(name: str, *, most: int = 3) -> tuple[str, ...]:
    """Names of the catalogue that may have been meant by `name`, the best first; empty if none is like it."""
    key = _key(name)
    known = _by_key()
    starting = [other for other in known if len(key) >= 3 and other.startswith(key)]
    close = difflib.get_close_matches(key, known, n=2 * most, cutoff=0.6)
    return tuple(dict.fromkeys(known[other].name for other in (*starting, *close)))[:most]


@functools.cache
def _by_key() -> dict[str, Model]:
    return {_key(name): model for model in catalogue() for name in (model.name, *model.aliases)}


def _key(name: str) -> str:
    return _SEPARATORS.sub("", name.strip().casefold())


def _model(row: dict[str, Any]) -> Model:
    own: Any = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    if "reasoning" in own:
        own["reasoning"] = Reasoning(**own["reasoning"])
    if "sampling" in own:
        own["sampling"] = tuple(RecommendedSampling(**each) for each in own["sampling"])
    return Model(**own)
