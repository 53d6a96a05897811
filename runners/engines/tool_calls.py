"""Tool calls put together from the fragments of a stream, bounded: what a model writes into them is anything at all.

A fragment says by `index` which call it belongs to, and the first one of a call has its id and name. Servers differ:
some leave the index out and repeat the id, some give two calls one index and different ids. Arguments are kept as they
came, character by character; whether they are JSON is for whoever reads the call (`ToolCall.parsed`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from runners.chat import ToolCall
from runners.engines.figures import count

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_CALLS: Final = 256
"""Of one reply; further ones are not kept."""
NAME_CHARS: Final = 200
"""Of a name, and of an id."""
ARGUMENTS_CHARS: Final = 1 << 20


@dataclass(slots=True)
class _Known:
    """A call as far as it has come."""

    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    length: int = 0


class ToolCallBuilder:
    """Takes fragments one after another; `calls` is what they amount to so far."""

    def __init__(self) -> None:
        self._calls: list[_Known] = []
        self._places: dict[int, int] = {}
        self._last: int | None = None
        self._left_out = 0
        self._cut = False

    def take(self, fragment: Mapping[str, Any]) -> str:
        """Add one fragment, and return the text that it brought, kept or not."""
        function = fragment.get("function")
        function = function if isinstance(function, dict) else {}
        name, arguments = (
            value if isinstance(value := function.get(key), str) else "" for key in ("name", "arguments")
        )
        self._last = self._place_of(fragment)
        if self._last is not None:
            call = self._calls[self._last]
            call.name = self._bounded(call.name + name, NAME_CHARS)
            if kept := self._bounded(arguments, ARGUMENTS_CHARS - call.length):
                call.arguments.append(kept)
                call.length += len(kept)
        return name + arguments

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The calls in the order in which they began, each with an id that no other has."""
        taken: set[str] = set()
        found = []
        for place, call in enumerate(self._calls):
            identity = call.id
            number = place
            while not identity or identity in taken:
                identity, number = f"call-{number}", number + 1
            taken.add(identity)
            found.append(ToolCall(id=identity, name=call.name, arguments="".join(call.arguments)))
        return tuple(found)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was not kept, as sentences."""
        found = []
        if self._left_out:
            found.append(f"the reply held more than {MOST_CALLS} tool calls: those beyond are left out")
        if self._cut:
            found.append("a tool call had a longer name, id or arguments than any that is kept: cut off")
        return tuple(found)

    def _place_of(self, fragment: Mapping[str, Any]) -> int | None:
        """Where the call is that a fragment belongs to; None for one beyond those that are kept."""
        given = fragment.get("id")
        identity = self._bounded(given, NAME_CHARS) if isinstance(given, str) else ""
        index = count(fragment.get("index"))
        if index is not None:
            place = self._places.get(index)
        elif identity:
            place = next((place for place, call in enumerate(self._calls) if call.id == identity), None)
        else:
            place = self._last
        if place is not None and identity and self._calls[place].id not in {"", identity}:
            place = None  # another call under the same index
        if place is None:
            if len(self._calls) >= MOST_CALLS:
                self._left_out += 1
                if index is not None:
                    self._places.pop(index, None)
                return None
            place = len(self._calls)
            self._calls.append(_Known())
            if index is not None:
                self._places[index] = place
        call = self._calls[place]
        call.id = call.id or identity
        return place

    def _bounded(self, text: str, most: int) -> str:
        if len(text) <= most:
            return text
        self._cut = True
        return text[: max(0, most)]
