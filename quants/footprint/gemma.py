"""What Gemma 3n and Gemma 4 compute besides: inputs for each layer, and Gemma 3n's four parallel streams.

The order of operations is that of src/models/gemma3n.cpp and gemma4.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from quants.footprint.blocks import F32, Batch, Block, run_block, run_feed_forward, run_mixer

if TYPE_CHECKING:
    from quants.footprint.tape import Tape

STREAMS: Final = 4  # hparams.n_altup
_SPARSE_LAYERS: Final = 10  # n_layer_sparsity in src/models/models.h: only there activations are thinned out


@dataclass(slots=True)
class PerLayerInputs:
    """The table of inputs for each layer, made in two steps.

    Attributes:
        embedded: the scaled token embeddings that it is projected from.
        looked_up: rows of per_layer_token_embd.
        size: bytes of the whole table.
        ready: the finished table; None until the first layer asks for it.
    """

    embedded: int
    looked_up: int
    size: int
    ready: int | None = None

    def table(self, tape: Tape) -> int:
        """The finished table (`project_per_layer_inputs`), made where it is first read."""
        if self.ready is None:
            projected = tape.op(self.size, self.embedded)
            total = tape.over(tape.op(self.size, projected), self.looked_up)
            self.ready = tape.op(self.size, total)
        return self.ready


def run_gemma4(tape: Tape, block: Block, batch: Batch, x: int, inputs: PerLayerInputs) -> int:
    """A block of a Gemma 4 that has inputs for each layer."""
    token = batch.tokens * F32
    x = run_block(tape, block, batch, x)
    gate = tape.op(block.out("inp_gate") * token, x)
    gate = tape.over(gate, inputs.table(tape))
    return tape.over(x, tape.op(block.model.width * token, gate))


def spread(tape: Tape, batch: Batch, x: int, width: int) -> int:
    """Gemma 3n's first step: the embeddings and three projections of them side by side."""
    one = width * batch.tokens * F32
    more = tape.op((STREAMS - 1) * one, tape.op((STREAMS - 1) * one, x))
    magnitude = tape.op(batch.tokens * F32, tape.op(one, x))
    scaled = tape.op((STREAMS - 1) * one, more, magnitude)
    tape.use(tape.over(more))
    return tape.op(STREAMS * one, x, tape.over(scaled))


def run_gemma3n(tape: Tape, block: Block, batch: Batch, stack: int, inputs: PerLayerInputs) -> int:
    """A block of Gemma 3n, from the stack of streams to the next."""
    token = batch.tokens * F32
    one = block.model.width * token
    permuted = tape.op(STREAMS * one, stack)
    router = tape.op(STREAMS * STREAMS * token, tape.op(one, stack))
    guessed = tape.op(STREAMS * one, permuted, router)
    predictions = tape.over(tape.op(STREAMS * one, guessed), stack)
    mixed = run_mixer(tape, block, batch, predictions)
    if mixed is None:
        return stack
    laurel = tape.op(one, predictions)
    x = tape.over(tape.over(mixed, predictions), laurel)
    if block.layer.index < _SPARSE_LAYERS:
        y = _thinned(tape, block, batch, x)
    else:
        y = run_feed_forward(tape, block, batch, x)
    change = tape.op(STREAMS * one, tape.op(one, y, predictions))
    tape.use(tape.over(y))
    corrected = tape.over(change, predictions)
    gate = tape.op(block.out("inp_gate") * token, tape.op(one, corrected))
    gate = tape.over(gate, inputs.table(tape))
    first = tape.op(one, gate)
    rest = tape.op((STREAMS - 1) * one, corrected, first)
    return tape.op(STREAMS * one, corrected, rest)


def _thinned(tape: Tape, block: Block, batch: Batch, x: int) -> int:
    """The feed-forward of the first layers, whose gate keeps its largest values only (`gaussian_topk`)."""
    token = batch.tokens * F32
    wide = block.out("ffn_up") * token
    normed = tape.op(block.model.width * token, x)
    up = tape.op(wide, normed)
    gate = tape.op(wide, normed)
    mean = tape.op(token, gate)
    spread_of = tape.op(token, tape.over(tape.op(wide, gate, mean)))
    hidden = tape.over(up, tape.over(gate, spread_of))
    return tape.over(tape.op(block.model.width * token, hidden), x)
