"""The scheduler's buffers: what the largest graph needs on each device while it runs.

The graph is recorded block by block (`blocks.py`) and the allocator replayed (`tape.py`). Of blocks that are alike only
the first few are recorded, as the allocator repeats itself. Follows `llama_context::sched_reserve`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from quants.footprint.blocks import F32, Batch, Block, run_block
from quants.footprint.caches import cache_type, cells, padded_context
from quants.footprint.gemma import PerLayerInputs, run_gemma3n, run_gemma4, spread
from quants.footprint.placement import HOST, Placement, pad
from quants.footprint.tape import Tape

if TYPE_CHECKING:
    from collections.abc import Iterable

    from quants.footprint.model import Model
    from quants.footprint.types import FootprintSettings
    from quants.gguf import Header

F16: Final = 2
# Blocks recorded before only new kinds are: two periods of the longest window pattern.
_FIRST_BLOCKS: Final = 13
_BLOCK: Final = re.compile(r"blk\.(\d+)\.(.+)")


def blocks_of(header: Header, model: Model) -> tuple[Block, ...]:
    """Every layer of the trunk with the shapes of its tensors."""
    shapes: dict[int, dict[str, tuple[int, ...]]] = {}
    for tensor in header.tensors:
        found = _BLOCK.match(tensor.name)
        if found:
            shapes.setdefault(int(found[1]), {})[found[2]] = tensor.shape
    return tuple(Block(model, layer, shapes.get(layer.index, {})) for layer in model.layers if not layer.nextn)


def compute_bytes(
    blocks: tuple[Block, ...], model: Model, settings: FootprintSettings, placement: Placement
) -> dict[str, int]:
    """The compute buffer on each device that has one."""
    tokens = graph_tokens(settings)
    extent = cells(model, settings)
    outputs = min(tokens, settings.outputs or settings.slots)
    attends = any(block.layer.cached for block in blocks)
    windowed = any(block.layer.cached and block.layer.windowed for block in blocks)
    full = any(block.layer.cached and not block.layer.windowed for block in blocks) or windowed
    element = F16 if settings.flash_attention else F32
    masks = (full * extent.full + windowed * extent.window) * tokens * element * attends
    stream = model.input_width * tokens * F32
    found: dict[str, int] = {}
    devices = dict.fromkeys((*placement.layers, placement.output))
    for device in devices:
        mine = [block for block in blocks if placement.layers[block.layer.index] == device]
        found[device] = _peak(mine, model, settings, device, placement, outputs)
    if placement.gpus:
        # Inputs and the token lookup stay in host memory: masks, the embeddings' input, their result.
        token = tokens * F32
        rows = _per_layer_width(list(blocks)) * len(model.layers) * token
        found[HOST] = max(found.get(HOST, 0), masks + stream + model.width * token + rows)
    return found


def graph_tokens(settings: FootprintSettings) -> int:
    """Tokens of the largest graph: a multiple of the slots."""
    context = padded_context(settings)
    tokens = min(context, settings.ubatch, settings.batch)
    return pad(tokens, settings.slots)


def _peak(
    blocks: list[Block],
    model: Model,
    settings: FootprintSettings,
    device: str,
    placement: Placement,
    outputs: int,
) -> int:
    tokens = graph_tokens(settings)
    extent = cells(model, settings)
    element = F16 if settings.flash_attention else F32
    tape = Tape()
    stream = model.width * tokens * F32
    if device == HOST:
        tape.leaf(model.input_width * tokens * F32)  # embeddings handed in instead of tokens: reserved, never read
    x = tape.leaf(stream) if device != HOST else None
    attends = [block.layer for block in blocks if block.layer.cached or block.layer.heads]
    mask = window_mask = None
    if any(layer.cached for layer in attends):
        if any(layer.windowed for layer in attends):
            window_mask = tape.leaf(extent.window * tokens * element)
        mask = tape.leaf(extent.full * tokens * element)
    quantized_k = cache_type(settings.cache_type_k).block_size > 1
    quantized_v = cache_type(settings.cache_type_v).block_size > 1
    heads = {layer.head_size for layer in attends if layer.cached}
    turns = len(heads) == 1 and next(iter(heads)) % 64 == 0
    batch = Batch(
        tokens=tokens,
        sequences=settings.slots,
        cells=extent.full,
        window_cells=extent.window,
        flash=settings.flash_attention,
        mask=mask,
        window_mask=window_mask,
        rotate_k=quantized_k and turns,
        rotate_v=quantized_v and turns and not model.latent,
    )
    if x is None:
        x = tape.op(stream)
    x = _run(tape, blocks, batch, x, model, on_host=device == HOST)
    if device == placement.output:
        last = tape.op(model.width * outputs * F32, x)
        tape.op(model.vocab * outputs * F32, last)
    return tape.peak()


def _run(tape: Tape, blocks: list[Block], batch: Batch, x: int, model: Model, *, on_host: bool) -> int:
    """Record the blocks of one device behind the embeddings `x`; the node of the stream at their end."""
    samples = _samples(blocks)
    per_layer = _per_layer_width(blocks)
    if per_layer:
        size = per_layer * len(model.layers) * batch.tokens * F32
        rows = tape.op(size) if on_host else tape.leaf(size)
        inputs = PerLayerInputs(x, tape.op(size, rows), size)
        if blocks[0].has("altup_proj") or blocks[0].has("altup_router"):
            x = spread(tape, batch, x, model.width)
            for block in samples:
                x = run_gemma3n(tape, block, batch, x, inputs)
            return x
        for block in samples:
            x = run_gemma4(tape, block, batch, x, inputs)
        return x
    # Images may bring more than one embedding for each token; the further ones are added behind the first layers.
    deep = model.input_width // model.width - 1
    wide = tape.op(model.input_width * batch.tokens * F32, x) if deep else x
    x = wide
    for block in samples:
        x = run_block(tape, block, batch, x)
        if block.layer.index < deep:
            x = tape.over(x, wide)
    return x


def _per_layer_width(blocks: list[Block]) -> int:
    """Elements of each layer's own input (Gemma 3n, Gemma 4); 0 where there is none."""
    return blocks[0].out("inp_gate") if blocks and blocks[0].has("inp_gate") else 0


def _samples(blocks: Iterable[Block]) -> list[Block]:
    """Blocks enough to meet every kind, and every kind behind every other."""
    kept: list[Block] = []
    seen: set[tuple[object, object]] = set()
    before: object = None
    for block in blocks:
        kind = (block.layer.windowed, block.layer.recurrent, block.layer.k_width, tuple(block.shapes.items()))
        if len(kept) < _FIRST_BLOCKS or (before, kind) not in seen:
            kept.append(block)
        seen.add((before, kind))
        before = kind
    return kept
