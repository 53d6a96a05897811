"""The network: a Llama as llama.cpp reads it, with grouped queries and a tied embedding."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name every reader of torch code knows


@dataclass(frozen=True)
class Shape:
    """The size of the network. Widths are multiples of 256, the block size of llama.cpp's k-quants."""

    vocab: int = 768
    width: int = 256
    layers: int = 3
    heads: int = 4
    kv_heads: int = 2
    ffn: int = 512
    context: int = 2048
    rope_base: float = 10_000.0
    norm_eps: float = 1e-5

    @property
    def head_width(self) -> int:
        """The width of one attention head."""
        return self.width // self.heads


def rope_table(shape: Shape, length: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of shape (length, head_width / 2). Su et al. 2021, arXiv:2104.09864."""
    steps = torch.arange(0, shape.head_width, 2, dtype=torch.float64) / shape.head_width
    angles = torch.outer(torch.arange(length, dtype=torch.float64), shape.rope_base**-steps)
    return angles.cos().float(), angles.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate neighbouring pairs, llama.cpp's order for `llama`; x is (batch, heads, length, head_width)."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


class Block(nn.Module):
    """Attention and feed-forward, each behind a norm and added to the stream."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        kv = shape.kv_heads * shape.head_width
        self.shape = shape
        self.attn_norm = nn.RMSNorm(shape.width, eps=shape.norm_eps)
        self.attn_q = nn.Linear(shape.width, shape.width, bias=False)
        self.attn_k = nn.Linear(shape.width, kv, bias=False)
        self.attn_v = nn.Linear(shape.width, kv, bias=False)
        self.attn_output = nn.Linear(shape.width, shape.width, bias=False)
        self.ffn_norm = nn.RMSNorm(shape.width, eps=shape.norm_eps)
        self.ffn_gate = nn.Linear(shape.width, shape.ffn, bias=False)
        self.ffn_up = nn.Linear(shape.width, shape.ffn, bias=False)
        self.ffn_down = nn.Linear(shape.ffn, shape.width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """One layer over x of shape (batch, length, width)."""
        batch, length, width = x.shape
        h = self.attn_norm(x)
        q = self.attn_q(h).view(batch, length, self.shape.heads, -1).transpose(1, 2)
        k = self.attn_k(h).view(batch, length, self.shape.kv_heads, -1).transpose(1, 2)
        v = self.attn_v(h).view(batch, length, self.shape.kv_heads, -1).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(
            rotate(q, cos, sin), rotate(k, cos, sin), v, is_causal=True, enable_gqa=True
        )
        x = x + self.attn_output(mixed.transpose(1, 2).reshape(batch, length, width))
        h = self.ffn_norm(x)
        return x + self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))


class Llama(nn.Module):
    """The whole network; parameter names are llama.cpp's tensor names."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.vocab, shape.width)
        self.blk = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.output_norm = nn.RMSNorm(shape.width, eps=shape.norm_eps)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.06)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """The hidden state (batch, length, width) before the output matrix, for tokens (batch, length)."""
        cos, sin = rope_table(self.shape, tokens.shape[1])
        x = self.token_embd(tokens)
        for block in self.blk:
            x = block(x, cos, sin)
        return self.output_norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores over the vocabulary; the output matrix is the embedding."""
        return hidden @ self.token_embd.weight.T
