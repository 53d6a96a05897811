"""What an attempt cost, by the prices that the spec names and the counts that the provider gave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runners.engines.settings import EndpointSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runners.chat import ChatResult
    from runners.engines.settings import EngineSettings

MILLION = 1_000_000
_OURS = "the model is served by a machine of ours"
_NO_PRICE = "the spec names no prices: price_in and price_out under [engine]"
_NO_USAGE = "the provider did not say how many tokens it counted"
_WRITTEN = "tokens were written to the provider's cache, whose price the spec does not name"


def cost_columns(engine: EngineSettings, results: Sequence[ChatResult], reasons: dict[str, str]) -> dict[str, Any]:
    """`cost` of all requests of an attempt, in `currency`; why there is none goes into `reasons`.

    A request whose counts are missing makes it null: a sum without it would be wrong, and look right.
    """
    if not isinstance(engine, EndpointSettings):
        reasons |= {"cost": _OURS, "currency": _OURS}
        return {"cost": None, "currency": None}
    found = [_cost(engine, result) for result in results]
    why = next((each for each in found if isinstance(each, str)), None)
    if why is not None:
        reasons["cost"] = why
    if engine.currency is None:
        reasons["currency"] = _NO_PRICE
    total = None if why is not None else sum(each for each in found if not isinstance(each, str))
    return {"cost": total, "currency": engine.currency}


def _cost(engine: EndpointSettings, result: ChatResult) -> float | str:
    """Of one request; a sentence if it is not known."""
    if engine.price_in is None or engine.price_out is None:
        return _NO_PRICE
    usage = result.usage
    if usage is None or usage.prompt_tokens is None or usage.completion_tokens is None:
        return _NO_USAGE
    if usage.cache_written_tokens:
        return _WRITTEN
    cached = min(usage.cached_tokens or 0, usage.prompt_tokens)
    price_cached = engine.price_in if engine.price_cached is None else engine.price_cached
    in_full = usage.prompt_tokens - cached
    return (in_full * engine.price_in + cached * price_cached + usage.completion_tokens * engine.price_out) / MILLION
