"""The scheduler's buffers: what the largest graph needs on each device while it runs.

The graph is recorded block by block (`blocks.py`) and the allocator replayed (`tape.py`). Of blocks that are alike only
the first few are recorded, as the allocator repeats itself. Follows `llama_context::sched_reserve`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from quants.footprint.blocks import F32, Batch, Block, Masks, run_block
from quants.footprint.caches import cache_type, cells, padded_context
from quants.footprint.gemma import STREAMS, PerLayerInputs, run_gemma3n, run_gemma4, spread
from quants.footprint.placement import HOST, Placement, pad
from quants.footprint.tape import Tape

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from quants.footprint.model import Model
    from quants.footprint.types import FootprintSettings
    from quants.gguf import Header

F16: Final = 2
_PIPELINE_COPIES: Final = 4
TensorSizes = dict[int, dict[str, int]]
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
    blocks: tuple[Block, ...], model: Model, settings: FootprintSettings, placement: Placement, sizes: TensorSizes
) -> dict[str, int]:
    """The compute buffer on each device that has one.

    Args:
        blocks: of the model (`blocks_of`).
        model: its hyper-parameters.
        settings: of the engine.
        placement: of its layers.
        sizes: bytes of each block's tensors by name, which a GPU copies if they lie in host memory.
    """
    graph = _Graph(model, settings, placement)
    if not placement.gpus:
        return {HOST: graph.peak(list(blocks), HOST, first=True)}
    # Large batches are computed on a GPU even where the weights are not: those layers go to the first one.
    main = placement.gpus[0]
    found: dict[str, int] = {}
    for device in placement.gpus:
        mine = [
            _at(block, settings, placement, sizes)
            for block in blocks
            if placement.layers[block.layer.index] == device
            or (device == main and placement.layers[block.layer.index] == HOST)
        ]
        if mine or device == placement.output:
            found[device] = graph.peak(mine, device, first=device == main)
    found[HOST] = graph.host_inputs(list(blocks))
    return found


def _at(block: Block, settings: FootprintSettings, placement: Placement, sizes: TensorSizes) -> Block:
    """The block as a GPU sees it: with what of it lies in host memory."""
    index = block.layer.index
    if placement.layers[index] == HOST:
        return replace(block, away=sizes.get(index, {}), cache_away=True)
    away: dict[str, int] = {}
    if index < settings.cpu_moe_layers:
        away = {name: size for name, size in sizes.get(index, {}).items() if "_exps." in name}
    return replace(block, away=away, cache_away=not settings.kv_on_gpu)


def sizes_of(header: Header) -> TensorSizes:
    """Bytes of every block's tensors, by layer and name."""
    sizes: TensorSizes = {}
    for tensor in header.tensors:
        found = _BLOCK.match(tensor.name)
        if found:
            sizes.setdefault(int(found[1]), {})[found[2]] = tensor.size_bytes
    return sizes


def graph_tokens(settings: FootprintSettings) -> int:
    """Tokens of the largest graph: a multiple of the slots."""
    context = padded_context(settings)
    tokens = min(context, settings.ubatch, settings.batch)
    return pad(tokens, settings.slots)


class _Graph:
    """The largest graph under given settings."""

    def __init__(self, model: Model, settings: FootprintSettings, placement: Placement) -> None:
        self.model = model
        self.settings = settings
        self.placement = placement
        self.tokens = graph_tokens(settings)
        self.extent = cells(model, settings)
        self.outputs = min(self.tokens, settings.outputs or settings.slots)
        self.mask_element = F16 if settings.flash_attention else F32
        layers = model.layers
        self.cached = any(layer.cached for layer in layers)
        self.windowed = any(layer.cached and layer.windowed for layer in layers)
        # With several GPUs and everything on them, batches overlap: inputs are kept four times
        # (GGML_SCHED_MAX_COPIES; the conditions are in the constructor of llama_context).
        self.copies = 1
        if (
            len(placement.gpus) > 1
            and HOST not in (*placement.layers, placement.output)
            and settings.kv_on_gpu
            and not settings.cpu_moe_layers
        ):
            self.copies = _PIPELINE_COPIES

    def _masks(self) -> tuple[int, int]:
        """Bytes of the full mask and of the window's."""
        if not self.cached:
            return 0, 0
        full = self.extent.full * self.tokens * self.mask_element
        return full, self.windowed * self.extent.window * self.tokens * self.mask_element

    def host_inputs(self, blocks: list[Block]) -> int:
        """What stays in host memory when GPUs compute: inputs, and rows that were looked up."""
        token = self.tokens * F32
        crossing = sum(self._masks()) + self.model.width * token + per_layer_bytes(blocks, self.model, self.settings)
        return crossing * self.copies + self.model.input_width * token

    def peak(self, blocks: list[Block], device: str, *, first: bool) -> int:
        """The buffer on the device that computes `blocks`."""
        tape = Tape()
        on_host = device == HOST
        stream = self.model.width * self.tokens * F32
        kept = self.copies > 1
        x = None
        if on_host:
            tape.leaf(self.model.input_width * self.tokens * F32)  # embeddings handed in: reserved, not read
        else:
            x = self._leaf(tape, stream)
            if kept and not first:
                self._leaf(tape, stream)
        full_bytes, window_bytes = self._masks()
        masks = Masks()
        if blocks and blocks[0].cache_away:
            masks.full_bytes, masks.window_bytes = full_bytes, window_bytes
        else:
            if window_bytes and any(block.layer.windowed for block in blocks):
                masks.window = self._leaf(tape, window_bytes)
            if full_bytes and any(block.layer.heads for block in blocks):
                masks.full = self._leaf(tape, full_bytes)
        if x is None:
            x = tape.op(stream)
        x = self._run(tape, blocks, self._batch(masks), x, device, first=first)
        if device == self.placement.output:
            last = tape.op(self.model.width * self.outputs * F32, x)
            tape.op(self.model.vocab * self.outputs * F32, last)
        return tape.peak()

    def _run(self, tape: Tape, blocks: list[Block], batch: Batch, x: int, device: str, *, first: bool) -> int:
        """Record the blocks of one device behind the stream `x`; the node of the stream at their end."""
        model = self.model
        samples = _samples(blocks)
        per_layer = _per_layer_width(blocks)
        if per_layer:
            size = per_layer * len(model.layers) * batch.tokens * F32
            if first:
                rows = tape.op(size) if device == HOST else self._leaf(tape, size)
                inputs = PerLayerInputs(x, tape.op(size, rows), size)
            else:
                inputs = PerLayerInputs(x, x, size, self._leaf(tape, size))
            if blocks[0].has("altup_router"):
                stack = STREAMS * model.width * batch.tokens * F32
                x = spread(tape, batch, x, model.width) if first else self._leaf(tape, stack)
                for block in samples:
                    x = run_gemma3n(tape, block, batch, x, inputs)
                return x
            for block in samples:
                x = run_gemma4(tape, block, batch, x, inputs)
            return x
        # Images may bring more than one embedding for each token; the further ones are added behind the first layers.
        deep = model.input_width // model.width - 1
        wide = tape.op(model.input_width * batch.tokens * F32, x) if deep and first else x
        x = wide
        for block in samples:
            x = run_block(tape, block, batch, x)
            if block.layer.index < deep:
                x = tape.over(x, wide)
        return x

    def _leaf(self, tape: Tape, size: int) -> int:
        """An input on a GPU, as often as batches overlap."""
        kept = self.copies > 1
        for _ in range(self.copies - 1):
            tape.leaf(size, kept=True)
        return tape.leaf(size, kept=kept)

    def _batch(self, masks: Masks) -> Batch:
        settings = self.settings
        kinds = cache_type(settings.cache_type_k), cache_type(settings.cache_type_v)
        heads = {layer.head_size for layer in self.model.layers if layer.cached}
        turns = len(heads) == 1 and next(iter(heads)) % 64 == 0
        return Batch(
            tokens=self.tokens,
            sequences=settings.slots,
            cells=self.extent.full,
            window_cells=self.extent.window,
            flash=settings.flash_attention,
            masks=masks,
            rotate_k=kinds[0].block_size > 1 and turns,
            rotate_v=kinds[1].block_size > 1 and turns and not self.model.latent,
            streams=self.extent.streams,
            kinds=kinds,
        )


def per_layer_bytes(blocks: Sequence[Block], model: Model, settings: FootprintSettings) -> int:
    """The table of inputs for each layer (Gemma 3n, Gemma 4); 0 where there is none."""
    return _per_layer_width(blocks) * len(model.layers) * graph_tokens(settings) * F32


def _per_layer_width(blocks: Sequence[Block]) -> int:
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
