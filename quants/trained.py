"""How many tokens of context a model was made for, rope scaling in its file included, and what to say beyond that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from quants.errors import GGUFError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from quants.gguf import Header

_MOST_FACTOR: Final = 1024.0
"""No file stretches a context further; a header that says so is wrong."""
_STRETCHES: Final = ("--rope", "--yarn", "--override-kv")
"""Arguments of llama.cpp by which somebody changes the reach himself."""


def trained_context(header: Header) -> int | None:
    """Tokens that the model can be expected to follow; None where its header does not say.

    That is `<arch>.context_length`, or what rope scaling makes of the original context where the file asks for more
    (`rope.scaling.factor` x `rope.scaling.original_context_length`: Qwen2.5 with YaRN has 4 x 32,768 beside a
    context_length of 32,768). Most converters write the stretched length as context_length already.
    """
    try:
        length = header.integer("{arch}.context_length")
        kind = header.text("{arch}.rope.scaling.type", "none")
        factor = header.number("{arch}.rope.scaling.factor")
        original = header.integer("{arch}.rope.scaling.original_context_length")
    except GGUFError:
        return None
    if length is None or length <= 0:
        return None
    if kind == "none" or factor is None or original is None or not 1 < factor <= _MOST_FACTOR:
        return length
    return max(length, int(original * factor))


def beyond_trained(who: str, context: int, trained: Iterable[int | None], extra_args: Sequence[str] = ()) -> str | None:
    """A warning if `context` tokens are more than a model was made for; None where they are not.

    Args:
        who: how the warning calls the model.
        context: tokens for each slot.
        trained: what `trained_context` gives for its quants; they may differ.
        extra_args: of the engine. Where these change rope scaling, somebody has chosen the context knowingly.
    """
    if any(argument.lower().replace("_", "-").startswith(_STRETCHES) for argument in extra_args):
        return None
    least = min((tokens for tokens in trained if tokens is not None), default=None)
    if least is None or context <= least:
        return None
    return (
        f"{who}: a context of {context:,} tokens is beyond the {least:,} that it was trained on: what it writes past "
        "them cannot be relied on, and newer builds of llama.cpp's server cut the context down to them"
    )
