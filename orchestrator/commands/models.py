"""`quantsweep models`: the models that are known by a short name, and what to write into a spec for each."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orchestrator.terminal import Json
from quants.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, ConsoleOptions, RenderResult

    from orchestrator.terminal import Part
    from quants.catalogue import Model, RecommendedSampling

STAND_IN: Final = "builtin:stand-in"
_DETAILED: Final = 3
"""So few models are shown with all that is known of them."""
_REASONING: Final = {
    "none": "never",
    "always": "always",
    "template": "on or off",
    "system": "on or off",
    "effort": "by effort",
}
_COLUMNS: Final = ("source", "context", "reasoning", "repository")


def show_models(word: str | None, *, as_json: bool) -> list[Part]:
    """The models of the catalogue whose name, title or repository holds every word of `word` (all without one).

    Raises:
        SourceError: none does; the nearest is named.
    """
    from quants.catalogue import catalogue, find_model, nearest_names

    found = list(catalogue())
    if word:
        named = find_model(word)
        found = [model for model in found if model is named] or [model for model in found if _holds(model, word)]
        if not found:
            near = nearest_names(word)
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            raise SourceError(
                f"the catalogue has no model {word!r}",
                f"{hint}Any repository of the Hub is hf:owner/name; `quantsweep models` lists the names there are",
            )
    if as_json:
        return [Json([dataclasses.asdict(model) | {"hub_source": model.hub_source} for model in found])]
    if word and len(found) <= _DETAILED:
        return _joined([_details(model) for model in found])
    return [_Models(found), "", *_legend(found, whole=not word)]


def _holds(model: Model, word: str) -> bool:
    text = " ".join((model.name, model.title, model.repo, *model.aliases, *model.reports)).casefold()
    return all(part in text for part in word.casefold().split())


@dataclass(frozen=True, slots=True)
class _Models:
    """A line a model; the repository only where there is room for it."""

    models: Sequence[Model]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.table import Table

        rows = [(m.name, _tokens(m.context), _switch(m), m.hub_source) for m in self.models]
        widths = [max(map(len, column)) for column in zip(_COLUMNS, *rows, strict=True)]
        shown = len(_COLUMNS) if sum(widths) + 2 * (len(widths) - 1) <= options.max_width else len(_COLUMNS) - 1
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
        for heading in _COLUMNS[:shown]:
            table.add_column(heading, justify="right" if heading == "context" else "left", no_wrap=True)
        for cells in rows:
            table.add_row(*cells[:shown])
        yield table


def _legend(models: Sequence[Model], *, whole: bool) -> list[Part]:
    from rich.text import Text

    lines = [
        f'In a spec: source = "{models[0].name}"; `quantsweep models {models[0].name}` says more of it.',
        "Any other repository of GGUF files on the Hub: hf:owner/name. Files of your own: their path.",
    ]
    if whole:
        lines.append(f"{STAND_IN} is the small model of the quickstart: it tries things out, and knows nothing.")
    return [Text(each) for each in lines]


def _details(model: Model) -> list[Part]:
    from rich.text import Text

    trained = "not known" if model.context is None else f"{model.context:,} tokens, as trained"
    lines = [
        f'source = "{model.name}", which stands for {model.hub_source}',
        f"context: {trained}",
        f"reasoning: {_reasoning(model)}",
        *(f"recommended sampling, {each.mode}: {_sampling(each)}" for each in model.sampling),
        f"quants seen there: {', '.join(model.quants) or 'none'} (`quantsweep fits {model.name}` asks for all)",
        *([f"also called: {', '.join(model.aliases)}"] if model.aliases else []),
        *([f"in the reports: {'; '.join(model.reports)}"] if model.reports else []),
        f"from: {model.source}",
    ]
    return [Text(model.title, style="bold"), *(Text(each) for each in lines)]


def _joined(blocks: Sequence[Sequence[Part]]) -> list[Part]:
    parts: list[Part] = []
    for block in blocks:
        parts += [*([""] if parts else []), *block]
    return parts


def _tokens(tokens: int | None) -> str:
    return "?" if tokens is None else f"{tokens / 1024:g}k"


def _switch(model: Model) -> str:
    return "?" if model.reasoning is None else _REASONING[model.reasoning.switch]


def _reasoning(model: Model) -> str:
    if model.reasoning is None:
        return "not known"
    default = {True: ", on by default", False: ", off by default", None: ""}[model.reasoning.default]
    key = f" ({model.reasoning.key})" if model.reasoning.key else ""
    return f"{_switch(model)}{key}{default}"


def _sampling(sampling: RecommendedSampling) -> str:
    given = {name: value for name, value in dataclasses.asdict(sampling).items() if value is not None}
    return ", ".join(f"{name} = {value:g}" for name, value in given.items() if name != "mode")
