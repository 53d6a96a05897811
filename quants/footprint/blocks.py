"""The tensors that one block of a model computes, in order, as llama.cpp's graphs have them.

Which mixer and which feed-forward a block has follows from the tensors it holds; widths are read off their shapes. The
order of operations is that of `llm_graph_context` (src/llama-graph.cpp: build_qkv, build_attn, build_attn_mha,
build_ffn, build_moe_ffn), src/models/mamba-base.cpp, delta-net-base.cpp, rwkv7-base.cpp, lfm2.cpp and deepseek2.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from quants.footprint.model import Layer, Model
    from quants.footprint.tape import Tape

F32: Final = 4


@dataclass(frozen=True, slots=True)
class Batch:
    """What a graph is built for.

    Attributes:
        tokens: computed at once.
        sequences: among them.
        cells: of the full cache in one stream.
        window_cells: of a sliding-window cache in one stream.
        flash: flash attention is on.
        rotate_k, rotate_v: a quantized cache is rotated first (`attn_rot_k` in src/llama-kv-cache.cpp).
        mask, window_mask: nodes of the masks.
    """

    tokens: int
    sequences: int
    cells: int
    window_cells: int
    flash: bool
    mask: int | None = None
    window_mask: int | None = None
    rotate_k: bool = False
    rotate_v: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """One layer with the shapes of its tensors by name ("attn_q.weight")."""

    model: Model
    layer: Layer
    shapes: dict[str, tuple[int, ...]] = field(repr=False)

    def has(self, name: str) -> bool:
        """Whether the block has that weight."""
        return f"{name}.weight" in self.shapes

    def out(self, name: str) -> int:
        """The width of that weight's output: rows of the matrix, times experts or heads for a stack."""
        shape = self.shapes[f"{name}.weight"]
        return shape[1]

    def used_experts(self) -> int:
        return self.model.experts_used[self.layer.index]


def run_block(tape: Tape, block: Block, batch: Batch, x: int) -> int:
    """Record a block that reads the residual stream `x`; the node of the stream behind it."""
    token = batch.tokens * F32
    stream = tape.size(x)
    width = block.model.width
    mixed: list[int] = []
    if block.has("attn_norm") or block.has("attn_q") or block.has("attn_qkv"):
        normed = tape.op(stream, x) if block.has("attn_norm") else x
        if block.has("ssm_in") or block.has("ssm_conv1d") or block.has("ssm_conv1d_q"):
            mixed.append(_recurrent(tape, block, batch, normed))
        elif block.has("shortconv.conv"):
            mixed.append(_shortconv(tape, block, batch, normed))
        elif block.has("time_mix_key"):
            mixed.append(_rwkv(tape, block, batch, normed))
        if block.layer.heads and not block.layer.recurrent or block.has("attn_output") and block.has("ssm_in"):
            if block.has("attn_output"):
                mixed.append(_attention(tape, block, batch, normed))
    if not mixed:
        return _feed_forward(tape, block, batch, x)
    cur = mixed[0]
    for other in mixed[1:]:
        cur = tape.over(cur, other)
    if block.has("post_attention_norm"):
        cur = tape.over(cur)
    x = tape.over(cur, x)
    del token, width
    return _feed_forward(tape, block, batch, x)


def _attention(tape: Tape, block: Block, batch: Batch, normed: int) -> int:
    token = batch.tokens * F32
    layer = block.layer
    if block.has("attn_kv_a_mqa"):
        q, keys = _latent_queries(tape, block, batch, normed)
        tape.use(*keys)
        value = block.shapes["attn_output.weight"][0]
        latent = block.has("attn_k_b")
        heads = layer.heads
        lora = block.shapes["attn_kv_a_norm.weight"][0] if latent else 0
        out_width = heads * lora if latent else value
        cur = _mha(tape, block, batch, q, out_width)
        if latent:
            cur = tape.op(value * token, cur)
            cur = tape.op(value * token, cur)
        return tape.op(block.out("attn_output") * token, cur)
    gate: int | None = None
    if block.has("attn_qkv"):
        qkv = tape.op(block.out("attn_qkv") * token, normed)
        width = block.shapes["attn_output.weight"][0]
        q = tape.op(width * token, qkv)
        k = tape.op(layer.k_width * token, qkv)
        tape.use(k)
        tape.use(qkv)
    else:
        q = tape.op(block.out("attn_q") * token, normed)
        width = block.shapes["attn_output.weight"][0]
        if block.out("attn_q") == 2 * width:
            # A gate is projected together with the query (qwen3next, qwen35).
            gate = tape.op(width * token, q)
        # Normalized or rotated through a reshaped view, whose room the allocator does not reuse.
        q = tape.op(width * token, q)
        if batch.rotate_k:
            q = tape.op(width * token, q)
        if block.has("attn_k"):
            v = tape.op(block.out("attn_v" if block.has("attn_v") else "attn_k") * token, normed)
            if batch.rotate_v:
                v = tape.op(tape.size(v), v)
            k = tape.op(block.out("attn_k") * token, normed)
            k = tape.op(tape.size(k), k)
            if batch.rotate_k:
                k = tape.op(tape.size(k), k)
            tape.use(k)
            tape.use(v)
    cur = _mha(tape, block, batch, q, width)
    if batch.rotate_v:
        cur = tape.op(width * token, cur)
    if gate is not None:
        cur = tape.over(cur, gate)
    return tape.op(block.out("attn_output") * token, cur)


def _latent_queries(tape: Tape, block: Block, batch: Batch, normed: int) -> tuple[int, list[int]]:
    """Queries and keys of multi-head latent attention (deepseek2.cpp)."""
    token = batch.tokens * F32
    heads = block.layer.heads
    if block.has("attn_q"):
        q = tape.op(block.out("attn_q") * token, normed)
    else:
        low = tape.op(block.out("attn_q_a") * token, normed)
        q = tape.op(block.out("attn_q_b") * token, low)
    compressed = tape.op(block.out("attn_kv_a_mqa") * token, normed)
    lora = block.shapes["attn_kv_a_norm.weight"][0]
    rope = block.out("attn_kv_a_mqa") - lora
    if block.has("attn_k_b"):
        absorbed = tape.op(heads * lora * token, q)
        rotated = tape.op(heads * rope * token, q)
        query = tape.op(heads * (lora + rope) * token, absorbed, rotated)
        latent = tape.op(lora * token, compressed)
        pe = tape.op(rope * token, compressed)
        return query, [tape.op((lora + rope) * token, latent, pe)]
    query = tape.over(q)
    latent = tape.op(lora * token, compressed)
    full = tape.op(block.out("attn_kv_b") * token, latent)
    values = tape.op(block.shapes["attn_output.weight"][0] * token, full)
    pe = tape.op(rope * heads * token, compressed)
    keys = tape.op(tape.size(query), full, pe)
    return query, [keys, values]


def _mha(tape: Tape, block: Block, batch: Batch, q: int, out_width: int) -> int:
    """Attention proper (`build_attn_mha`)."""
    token = batch.tokens * F32
    layer = block.layer
    windowed = layer.windowed and batch.window_mask is not None
    mask = batch.window_mask if windowed else batch.mask
    masks = () if mask is None else (mask,)
    if batch.flash:
        return tape.op(out_width * token, q, *masks)
    cells = batch.window_cells if layer.windowed else batch.cells
    scores = tape.over(tape.op(cells * layer.heads * token, q), *masks)
    cur = tape.op(out_width * token, scores)
    return tape.op(out_width * token, cur)


def _feed_forward(tape: Tape, block: Block, batch: Batch, x: int) -> int:
    token = batch.tokens * F32
    width = block.model.width * token
    moe = block.has("ffn_down_exps")
    dense = block.has("ffn_down") or block.has("channel_mix_key")
    if not moe and not dense:
        return x
    normed = tape.op(tape.size(x), x)
    out: list[int] = []
    if moe:
        out.append(_experts(tape, block, batch, normed))
    for prefix in ("ffn_{}", "ffn_{}_shexp"):
        if block.has(prefix.format("down")):
            out.append(_dense(tape, block, batch, normed, prefix))
    if block.has("channel_mix_key"):
        out.append(_channel_mix(tape, block, batch, normed))
    cur = out[0]
    for other in out[1:]:
        cur = tape.over(cur, other)
    del width
    return tape.over(cur, x)


def _dense(tape: Tape, block: Block, batch: Batch, normed: int, prefix: str) -> int:
    token = batch.tokens * F32
    names = {part: prefix.format(part) for part in ("up", "gate", "down")}
    down = block.shapes[f"{names['down']}.weight"]
    up = tape.op(block.out(names["up"]) * token, normed)
    if block.has(names["gate"]):
        gate = tape.op(block.out(names["gate"]) * token, normed)
        hidden = tape.op(down[0] * token, gate, up)
    elif block.out(names["up"]) == 2 * down[0]:
        hidden = tape.op(down[0] * token, up)
    else:
        hidden = tape.over(up)
    return tape.op(down[1] * token, hidden)


def _experts(tape: Tape, block: Block, batch: Batch, normed: int) -> int:
    """`build_moe_ffn`."""
    token = batch.tokens * F32
    used = block.used_experts()
    down = block.shapes["ffn_down_exps.weight"]
    count = down[2]
    scores = tape.op(count * token, normed)
    probabilities = tape.over(scores)
    order = tape.op(count * token, probabilities)
    weights = tape.op(used * token, probabilities, order)
    if block.has("ffn_gate_up_exps"):
        both = tape.op(2 * down[0] * used * token, normed, order)
        hidden = tape.op(down[0] * used * token, both)
    else:
        up = tape.op(down[0] * used * token, normed, order)
        if block.has("ffn_gate_exps"):
            gate = tape.op(down[0] * used * token, normed, order)
            hidden = tape.op(down[0] * used * token, gate, up)
        else:
            hidden = tape.over(up)
    each = tape.over(tape.op(down[1] * used * token, hidden, order), weights)
    # The first sum reads two experts' slices; the others read one more each, so all stay until the end.
    total = tape.op(down[1] * token, each)
    total = tape.over(total)
    tape.use(each)
    return tape.over(total)


def _recurrent(tape: Tape, block: Block, batch: Batch, normed: int) -> int:
    """Mamba, Mamba-2, gated delta net and Kimi delta attention."""
    token = batch.tokens * F32
    model = block.model
    state = model.state_width * batch.sequences * F32
    inner = model.inner_width
    if block.has("ssm_conv1d_q"):
        return _kimi_delta(tape, block, batch, normed)
    if block.has("attn_qkv") or block.has("attn_gate") or block.has("ssm_ba"):
        return _delta_net(tape, block, batch, normed)
    projected = tape.op(block.out("ssm_in") * token, normed)
    channels = block.shapes["ssm_conv1d.weight"][1]
    history = tape.op(model.conv_width * batch.sequences * F32)
    joined = tape.op(channels * (token + 3 * batch.sequences * F32), history, projected)
    conv = tape.over(tape.op(channels * token, joined))
    if block.has("ssm_x"):
        mixed = tape.op(block.out("ssm_x") * token, conv)
        step = tape.op(inner * token, mixed)
        scan = tape.op(inner * token + state, conv, step, mixed)
    else:
        step = tape.op(block.shapes["ssm_dt.bias"][0] * token, projected)
        scan = tape.op(inner * token + state, conv, step)
    skip = tape.op(inner * token, conv)
    y = tape.over(skip, scan)
    z = tape.op(inner * token, projected)
    gated = tape.op(inner * token, z, y)
    return tape.op(block.out("ssm_out") * token, gated)


def _delta_net(tape: Tape, block: Block, batch: Batch, normed: int) -> int:
    token = batch.tokens * F32
    model = block.model
    inner = model.inner_width
    state = model.state_width * batch.sequences * F32
    channels = block.shapes["ssm_conv1d.weight"][1]
    mixed = tape.op(channels * token, normed)
    history = tape.op(model.conv_width * batch.sequences * F32)
    joined = tape.op(channels * (token + 3 * batch.sequences * F32), history, mixed)
    conv = tape.over(tape.op(channels * token, joined))
    keys = (channels - inner) // 2
    q = tape.op(keys * token, conv)
    k = tape.op(keys * token, conv)
    before = tape.op(state)
    scan = tape.op(inner * token + state, q, k, conv, before)
    out = tape.op(inner * token, scan)
    z = tape.over(tape.op(inner * token, normed))
    gated = tape.over(out, z)
    return tape.op(block.out("ssm_out") * token, gated)


def _kimi_delta(tape: Tape, block: Block, batch: Batch, normed: int) -> int:
    token = batch.tokens * F32
    model = block.model
    inner = block.shapes["ssm_conv1d_q.weight"][1] if len(block.shapes["ssm_conv1d_q.weight"]) > 1 else 0
    inner = max(inner, block.out("attn_q"))
    state = model.state_width * batch.sequences * F32
    parts = []
    for name in ("attn_q", "attn_k", "attn_v"):
        projected = tape.op(block.out(name) * token, normed)
        joined = tape.op(inner * (token + 3 * batch.sequences * F32), projected)
        parts.append(tape.over(tape.op(inner * token, joined)))
    gate = tape.op(inner * token, normed)
    before = tape.op(state)
    scan = tape.op(inner * token + state, *parts, gate, before)
    out = tape.op(inner * token, scan)
    z = tape.op(inner * token, normed)
    return tape.op(block.out("attn_output") * token, tape.over(out, z))


def _shortconv(tape: Tape, block: Block, batch: Batch, normed: int) -> int:
    token = batch.tokens * F32
    width = block.model.width
    projected = tape.op(3 * width * token, normed)
    gated = tape.op(width * token, projected)
    history = tape.op(block.model.conv_width * batch.sequences * F32)
    joined = tape.op(width * (token + 2 * batch.sequences * F32), history, gated)
    conv = tape.op(width * token, joined)
    mixed = tape.over(conv, projected)
    return tape.op(width * token, mixed)


def _rwkv(tape: Tape, block: Block, batch: Batch, normed: int) -> int:
    token = batch.tokens * F32
    width = block.model.width * token
    state = block.model.state_width * batch.sequences * F32
    shifted = tape.op(width, normed)
    delta = tape.over(shifted, normed)
    mixes = tape.op(6 * width, delta, normed)
    r = tape.op(width, mixes)
    w = tape.op(width, mixes)
    k = tape.op(width, mixes)
    v = tape.op(width, mixes)
    g = tape.op(width, mixes)
    a = tape.op(width, mixes)
    kk = tape.op(width, k)
    out = tape.op(width + state, r, w, k, v, a, kk)
    y = tape.op(width, out)
    return tape.op(width, tape.over(y, g))


def _channel_mix(tape: Tape, block: Block, batch: Batch, normed: int) -> int:
    token = batch.tokens * F32
    width = block.model.width * token
    shifted = tape.op(width, normed)
    mixed = tape.over(shifted, normed)
    key = tape.over(tape.op(block.out("channel_mix_key") * token, mixed))
    return tape.op(width, key)
