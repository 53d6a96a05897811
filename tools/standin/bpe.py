"""A small, deterministic byte-level BPE: what llama.cpp calls a `gpt2` vocabulary with the `gpt-2` pre-tokenizer.

Byte-pair encoding as in Sennrich et al. 2016 (arXiv:1508.07909), over bytes as in GPT-2 (Radford et al. 2019).
"""

import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
"""Control tokens, at the ids after the 256 bytes: end of text (padding), start of a turn, end of a turn."""

# GPT-2's split without its Unicode classes: no text of ours has a letter or digit beyond ASCII.
_SPLIT = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+")


def byte_letters() -> list[str]:
    """GPT-2's letter for each byte 0..255: printable Latin-1 stays itself, the rest moves up from U+0100."""
    keep = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    letters, moved = [], 0
    for value in range(256):
        letters.append(chr(value) if value in keep else chr(256 + moved))
        moved += value not in keep
    return letters


@dataclass(frozen=True)
class Vocabulary:
    """The tokens in id order, and the merges in the order they were learnt, both in GPT-2's letters."""

    tokens: tuple[str, ...]
    merges: tuple[tuple[str, str], ...]

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {token: index for index, token in enumerate(self.tokens)}

    @cached_property
    def _ranks(self) -> dict[tuple[str, str], int]:
        return {pair: rank for rank, pair in enumerate(self.merges)}

    @cached_property
    def _cache(self) -> dict[str, list[int]]:
        return {}

    def special(self, token: str) -> int:
        """The id of a control token."""
        return self._ids[token]

    def encode(self, text: str) -> list[int]:
        """The ids of plain text; control tokens are not looked for in it."""
        ids: list[int] = []
        for piece in _SPLIT.findall(text):
            if piece not in self._cache:
                self._cache[piece] = [self._ids[part] for part in self._merge(piece)]
            ids += self._cache[piece]
        return ids

    def decode(self, ids: list[int]) -> str:
        """The text of `ids`; bytes that are no UTF-8 become U+FFFD."""
        values = {letter: value for value, letter in enumerate(byte_letters())}
        data = b"".join(
            self.tokens[i].encode() if self.tokens[i] in SPECIAL else bytes(values[c] for c in self.tokens[i])
            for i in ids
        )
        return data.decode(errors="replace")

    def _merge(self, piece: str) -> list[str]:
        letters = byte_letters()
        parts = [letters[value] for value in piece.encode()]
        while len(parts) > 1:
            rank, at = min((self._ranks.get(pair, len(self.merges)), at) for at, pair in enumerate(pairwise(parts)))
            if rank == len(self.merges):
                break
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        return parts


def learn(texts: list[str], size: int) -> Vocabulary:
    """Learn at most `size` tokens; ties go to the pair that sorts first, so that every machine learns the same."""
    letters = byte_letters()
    counts = Counter(piece for text in texts for piece in _SPLIT.findall(text))
    words = [([letters[value] for value in piece.encode()], count) for piece, count in sorted(counts.items())]
    tokens = [*letters, *SPECIAL]
    merges: list[tuple[str, str]] = []
    while len(tokens) < size:
        pairs: Counter[tuple[str, str]] = Counter()
        for parts, count in words:
            for pair in pairwise(parts):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        tokens.append(best[0] + best[1])
        for parts, _ in words:
            at = 0
            while at < len(parts) - 1:
                if (parts[at], parts[at + 1]) == best:
                    parts[at : at + 2] = [parts[at] + parts[at + 1]]
                at += 1
    return Vocabulary(tuple(tokens), tuple(merges))
