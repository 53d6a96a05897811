"""Machines and cards for a person to read: tables of profiles, and of the catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.text import Text

    from profiles.catalogue import Card
    from profiles.types import Device, FoundEngine, FoundNeed, NodeProfile

UNKNOWN = "?"

_DEVICE_COLUMNS: Final = ("  device", "name", "kind", "free", "total", "bandwidth", "notes")
_GIVE_WAY: Final = (1, 6)
"""Of these, name and notes take a second line where that helps, down to _NAME_CHARS characters each."""
_NAME_CHARS: Final = 12

_CARD_COLUMNS: Final = ("card", "memory", "bandwidth", "kind", "name")
_CARD_ALWAYS: Final = 3
"""So many of the columns, from the left, are there however narrow the terminal is."""
_CARD_ID_CHARS: Final = 27
"""Ids that are longer (two of over two hundred) may take a second line."""
_MOST_SOURCES: Final = 3
"""Where the figures come from is said of a few cards; JSON has it of all."""


def to_json(profiles: Sequence[NodeProfile]) -> list[dict[str, Any]]:
    """The profiles as plain JSON values."""
    return [profile.to_dict() for profile in profiles]


def render_nodes(profiles: Sequence[NodeProfile]) -> RenderableType:
    """One block a machine: the machine itself, its devices as a table, engines and tools, and its warnings."""
    from rich.console import Group

    blocks: list[RenderableType] = []
    for profile in profiles:
        if blocks:
            blocks.append("")
        blocks += _node(profile)
    return Group(*blocks)


def render_cards(cards: Sequence[Card]) -> RenderableType:
    """The catalogue, a line a card: id, memory and bandwidth, and as much more as there is room for."""
    from rich.console import Group

    sources = list(dict.fromkeys(card.source for card in cards))
    told = [f"Figures: {source}" for source in sources] if len(sources) <= _MOST_SOURCES else []
    return Group(_Cards(cards), *(["", *told] if told else []))


@dataclass(frozen=True, slots=True)
class _Cards:
    """The table of cards; an id is never cut, since it is there to be typed."""

    cards: Sequence[Card]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.table import Table

        rows = [_card_cells(card) for card in self.cards]
        widths = [max(map(len, column)) for column in zip(_CARD_COLUMNS, *rows, strict=True)]
        shown = len(_CARD_COLUMNS)
        while shown > _CARD_ALWAYS and _width(widths[:shown]) > options.max_width:
            shown -= 1
        if _width(widths[:shown]) > options.max_width:
            widths[0] = min(widths[0], _CARD_ID_CHARS)
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        for place, heading in enumerate(_CARD_COLUMNS[:shown]):
            table.add_column(
                heading,
                justify="right" if heading in {"memory", "bandwidth"} else "left",
                no_wrap=place > 0,
                overflow="fold",
                min_width=widths[place],
            )
        for cells in rows:
            table.add_row(*cells[:shown])
        yield table


def _width(columns: Sequence[int]) -> int:
    return sum(columns) + 2 * (len(columns) - 1)


def _card_cells(card: Card) -> tuple[str, ...]:
    speed = bandwidth(card.bandwidth_bytes_per_s)
    return (
        card.id,
        "RAM" if card.memory_bytes is None else f"{card.memory_bytes >> 30} GiB",
        f"<= {speed}" if card.bandwidth_is_maximum else speed,
        card.kind,
        card.name,
    )


def _node(profile: NodeProfile) -> list[RenderableType]:
    from rich.text import Text

    header = Text.assemble((profile.hostname, "bold"), f"  {profile.os} {profile.arch}")
    cores = _number(profile.cores_usable)
    if profile.cores_logical is not None and profile.cores_usable != profile.cores_logical:
        cores += f" of {profile.cores_logical}"
    lines = [
        f"{profile.cpu_model or 'CPU unknown'}, {cores} cores",
        f"RAM {size(profile.ram_free_bytes)} free of {size(profile.ram_total_bytes)}"
        + (f" (limit: {profile.ram_limit})" if profile.ram_limit else "")
        + f", swap {size(profile.swap_total_bytes)}"
        + f", disk {size(profile.disk_free_bytes)} free in {profile.models_dir}",
        f"governor {profile.governor or UNKNOWN}, platform profile {profile.platform_profile or UNKNOWN}",
    ]
    blocks: list[RenderableType] = [header, *(_set_in(Text(line)) for line in lines), _Devices(profile.devices)]
    for engine in profile.engines:
        first, *more = _engine(engine)
        blocks += [_set_in(Text(first)), *(_set_in(Text(line), 4) for line in more)]
    tools = ", ".join(tool.name + (f" ({tool.version})" if tool.version else "") for tool in profile.tools)
    blocks.append(_set_in(Text(f"tools {tools or 'none'}")))
    for place, line in enumerate(_needs(profile.needs)):
        blocks.append(_set_in(Text(line), 4 if place else 2))
    blocks += [_set_in(Text.assemble(("warning ", "yellow"), notice.message)) for notice in profile.warnings]
    return blocks


def _needs(needs: Sequence[FoundNeed]) -> list[str]:
    """What the machine has of what exams need, and the command that brings the rest; no line where it was not asked."""
    if not needs:
        return []
    lacking = [need for need in needs if need.found is None]
    line = f"for exams {', '.join(need.name for need in needs if need.found is not None) or 'nothing'}"
    if not lacking:
        return [line]
    cures = dict.fromkeys(need.cure for need in lacking if need.cure)
    return [f"{line}; not {', '.join(need.name for need in lacking)}", f"mend it with: {' && '.join(cures)}"]


def _set_in(paragraph: Text, by: int = 2) -> RenderableType:
    """The paragraph below its machine: its further lines are set in as its first one is."""
    from rich.padding import Padding

    return Padding(paragraph, (0, 0, 0, by))


def _engine(engine: FoundEngine) -> list[str]:
    """The engine, and a line for each GPU: what the engine calls it and how that is known, or why it has no name."""
    origin = f"({engine.origin})" if engine.origin else ""
    words = [engine.kind, engine.build or "", engine.path or "", origin]
    lines = [f"engine {' '.join(word for word in words if word)}"]
    if engine.problem is not None:
        return [*lines, f"cannot be used: {engine.problem}"]
    for match in engine.matches:
        if match.name is not None:
            lines.append(f"{match.device_id} = {match.listed_as}, {match.backend}, {match.how}")
        else:
            lines.append(f"{match.device_id}: no match, {match.how}")
    taken = {match.listed_as for match in engine.matches}
    others = [f"{each.name} ({each.description})" for each in engine.devices if each.name not in taken]
    return [*lines, f"also lists {', '.join(others)}"] if others else lines


@dataclass(frozen=True, slots=True)
class _Devices:
    """A line a device, or a paragraph a device where the terminal is too narrow for a table."""

    devices: Sequence[Device]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.table import Table
        from rich.text import Text

        rows = [_device_cells(device) for device in self.devices]
        columns = list(zip(_DEVICE_COLUMNS, *rows, strict=True))
        widths = [max(map(len, column)) for column in columns]
        least = [min(width, _NAME_CHARS) if place in _GIVE_WAY else width for place, width in enumerate(widths)]
        if _width(least) > options.max_width:
            for name, product, kind, free, total, speed, notes in rows:
                rest = "".join(f"; {each}" for each in (speed, notes) if each not in {"", UNKNOWN})
                yield _set_in(Text(f"{name.strip()}: {product}, {kind}, {free} free of {total}{rest}"))
            return
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        for place, heading in enumerate(_DEVICE_COLUMNS):
            figure = heading in {"free", "total", "bandwidth"}
            table.add_column(
                heading,
                justify="right" if figure else "left",
                no_wrap=place not in _GIVE_WAY,
                min_width=least[place],
            )
        for cells in rows:
            table.add_row(*cells)
        yield table


def _device_cells(device: Device) -> tuple[str, ...]:
    return (
        f"  {device.id}",
        device.name,
        device.kind,
        size(device.memory_free_bytes),
        size(device.memory_total_bytes),
        bandwidth(device.bandwidth_bytes_per_s),
        _notes(device),
    )


def _notes(device: Device) -> str:
    notes = []
    if device.excluded is not None:
        notes.append(f"left alone: {device.excluded}")
    elif not device.usable:
        notes.append("not used: memory unknown")
    if device.driver is not None:
        notes.append(f"driver {device.driver}")
    if device.compute_capability is not None:
        notes.append(f"compute {device.compute_capability}")
    if device.reserved_bytes:
        notes.append(f"{size(device.reserved_bytes)} left free")
    if device.processes:
        held = [process.memory_bytes for process in device.processes]
        known = "" if None in held else f", {size(sum(each or 0 for each in held))}"
        notes.append(f"{len(device.processes)} process{'es' if len(device.processes) > 1 else ''}{known}")
    return "; ".join(notes)


def size(number_of_bytes: int | None) -> str:
    """Bytes in GiB, ``?`` for what is not known."""
    return UNKNOWN if number_of_bytes is None else f"{number_of_bytes / 2**30:.1f} GiB"


def bandwidth(bytes_per_s: float | None) -> str:
    """Bytes per second in the GB/s of data sheets, ``?`` for what is not known."""
    return UNKNOWN if bytes_per_s is None else f"{bytes_per_s / 1e9:.0f} GB/s"


def _number(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:g}"
