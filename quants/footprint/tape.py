"""Replays ggml's graph allocator over a recorded sequence of tensors, to find the size of the compute buffer.

The rules are those of `ggml_gallocr_alloc_graph_impl` and `ggml_dyn_tallocr` in ggml/src/ggml-alloc.c: inputs first,
each tensor at its turn, freed after its last use, results in the place of an operand where the operation allows it,
best fit among the holes, and the end of the buffer when none is large enough.
"""

from __future__ import annotations

from typing import Final

_ALIGNMENT: Final = 128


class Tape:
    """Tensors in order of computation. Nodes are numbers; sizes are bytes."""

    def __init__(self) -> None:
        self._sizes: list[int] = []
        self._sources: list[tuple[int, ...]] = []
        self._inplace: list[bool] = []
        self._inputs: list[int] = []
        self._kept: set[int] = set()

    def leaf(self, size: float, *, kept: bool = False) -> int:
        """An input of the graph: there before the first operation, freed after the last that reads it, or `kept`."""
        node = self._add(size, (), inplace=False)
        self._inputs.append(node)
        if kept:
            self._kept.add(node)
        return node

    def op(self, size: float, *sources: int) -> int:
        """A result that needs room of its own."""
        return self._add(size, sources, inplace=False)

    def over(self, *sources: int) -> int:
        """An elementwise result as large as the first source, in its place if nobody else reads that."""
        return self._add(self._sizes[sources[0]], sources, inplace=True)

    def use(self, *sources: int) -> None:
        """An operation that writes elsewhere (a cache) or whose result is too small to count."""
        self._add(0, sources, inplace=False)

    def size(self, node: int) -> int:
        """The bytes of a node."""
        return self._sizes[node]

    def _add(self, size: float, sources: tuple[int, ...], *, inplace: bool) -> int:
        self._sizes.append(-(-int(size) // _ALIGNMENT) * _ALIGNMENT)
        self._sources.append(sources)
        self._inplace.append(inplace)
        return len(self._sizes) - 1

    def peak(self) -> int:
        """The bytes of the buffer that the whole tape needs."""
        left = [0] * len(self._sizes)
        for sources in self._sources:
            for source in sources:
                left[source] += 1
        for node in self._kept:
            left[node] += 1  # a reader that never comes
        arena = _Arena()
        place: dict[int, int] = {node: arena.take(self._sizes[node]) for node in self._inputs}
        inputs = frozenset(self._inputs)
        for node, sources in enumerate(self._sources):
            if node not in inputs and self._sizes[node]:
                taken = None
                if self._inplace[node]:
                    taken = next(
                        (each for each in sources if self._same(each, node) and left[each] == 1 and each in place), None
                    )
                place[node] = arena.take(self._sizes[node]) if taken is None else place.pop(taken)
            for source in sources:
                left[source] -= 1
                if not left[source] and source in place:
                    arena.give(place.pop(source), self._sizes[source])
        return arena.high

    def _same(self, one: int, other: int) -> bool:
        return self._sizes[one] == self._sizes[other]


class _Arena:
    """One chunk of `ggml_dyn_tallocr`: free blocks in order of offset, the last one without end."""

    def __init__(self) -> None:
        self.high = 0
        self._free: list[tuple[int, int]] = []
        self._end = 0

    def take(self, size: int) -> int:
        best = min(((room, -index) for index, (_, room) in enumerate(self._free) if room >= size), default=None)
        if best is None:
            offset = self._end
            self._end += size
            self.high = max(self.high, self._end)
            return offset
        index = -best[1]
        offset, room = self._free[index]
        if room == size:
            del self._free[index]
        else:
            self._free[index] = (offset + size, room - size)
        return offset

    def give(self, offset: int, size: int) -> None:
        free = self._free
        index = next((i for i, (start, _) in enumerate(free) if start > offset), len(free))
        if index < len(free) and offset + size == free[index][0]:
            size += free.pop(index)[1]
        if index and sum(free[index - 1]) == offset:
            offset, room = free.pop(index - 1)
            size += room
            index -= 1
        if offset + size == self._end:
            self._end = offset
        else:
            free.insert(index, (offset, size))
