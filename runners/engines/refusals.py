"""What a provider's refusal means: whose doing it is, whether to wait, and what a person is to change.

Providers say the same in different words: a status, `type`, `code` and `param` of an error object, a sentence. Each
rule here is for what one of them documents or sends.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

from runners.chat import AskedToWaitError, ChatError, ContextOverflowError, RefusedError, ToolFormatError
from runners.engines.wire import refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runners.chat import ChatResult
    from runners.engines.reply import ServerSaidError

BUSY: Final = frozenset({429, 503, 529})
_BUSY_WORDS: Final = frozenset(
    {"overloaded_error", "rate_limit_error", "rate_limit_exceeded", "rate_limit_reached", "overloaded", "slow_down"}
    | {"resource_exhausted", "unavailable"}
)
_NO_MONEY: Final = re.compile(
    r"insufficient_quota|insufficient balance|exceeded your current quota|credit balance is too low|billing_hard_limit"
    r"|billing_not_active|payment required",
    re.IGNORECASE,
)
_TOO_LONG: Final = re.compile(
    r"context_length_exceeded|maximum context length|prompt is too long|exceeds? the context|longer than the model's "
    r"context|input is too long|exceed context limit",
    re.IGNORECASE,
)
_TOOL_FORMAT: Final = re.compile(
    r"tool_use_failed|error parsing tool call|failed to parse tool call|malformed_function_call"
    r"|failed to call a function",
    re.IGNORECASE,
)
_PARAMETER: Final = re.compile(
    r"(?:unsupported (?:parameter|value)|unrecognized request argument supplied|unknown (?:parameter|field|name)"
    r"|does not support|unexpected keyword argument|extra inputs are not permitted)[: ]{0,3}['\"`]?(\w{2,40})?",
    re.IGNORECASE,
)
_OF_ANTHROPIC: Final = re.compile(r"^(\w{2,40}): (?:extra inputs are not permitted|unexpected)", re.IGNORECASE)
MOST_WAIT_S: Final = 7 * 24 * 3600.0
"""What a server may ask for is read up to here; whether anybody waits so long is not decided here."""
_LONGEST_HEADER: Final = 100


def retry_after_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that a server wants to be left alone: `Retry-After` in seconds or as a date, or `retry-after-ms`.

    None where it does not say, or says nothing that can be meant (RFC 9110, 10.2.3).
    """
    if (in_ms := _number(headers.get("retry-after-ms", ""))) is not None:
        return min(in_ms / 1000.0, MOST_WAIT_S)
    given = headers.get("retry-after", "").strip()
    if (seconds := _number(given)) is not None:
        return min(seconds, MOST_WAIT_S)
    if not given or len(given) > _LONGEST_HEADER:
        return None
    try:
        until = parsedate_to_datetime(given)
        until = until if until.tzinfo is not None else until.replace(tzinfo=UTC)
        left_s = (until - (now or datetime.now(UTC))).total_seconds()
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
    return min(max(0.0, left_s), MOST_WAIT_S)


def _number(text: str) -> float | None:
    text = text.strip()
    if not text or len(text) > _LONGEST_HEADER:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def refused(
    said: ServerSaidError,
    *,
    who: str,
    model: str,
    key_env: str | None,
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
    partial: ChatResult | None = None,
) -> ChatError:
    """The failure that a provider's error stands for.

    Args:
        said: its words, without any secret.
        who: the provider, as a person knows it.
        model: what was asked for.
        key_env: the variable that holds the key; None where no key was sent.
        status: of the answer; None if it came inside of a stream that had begun.
        headers: of the answer, by names in lower case.
        partial: what had arrived.
    """
    code = str(said.details.get("code") or "")
    words = f"{said.kind} {code} {said.message}"
    if _TOO_LONG.search(words):
        hint = "leave out part of the prompt, or ask a model with a larger context"
        message = f"the prompt does not fit the context of {model}: {said.message}"
        return ContextOverflowError(message, hint=hint, partial=partial)
    if _TOOL_FORMAT.search(words):
        return ToolFormatError(f"the reply is not in the model's format: {said.message}", partial=partial)
    if status == 402 or _NO_MONEY.search(words):
        text = f"{who} answers nothing more on this account: {said.message}"
        return RefusedError(text, hint="look at the account's balance and limits", status=status, ends="node")
    if status in BUSY or {said.kind.lower(), code.lower()} & _BUSY_WORDS:
        wait_s = retry_after_s(headers or {})
        return AskedToWaitError(
            f"{who} has too much to do: {said.message}", partial=partial, status=status, wait_s=wait_s
        )
    if status in {401, 403}:
        text = f"{who} does not let us in (status {status}): {said.message}"
        hint = (
            f"see that {key_env} holds a valid key on this node"
            if key_env
            else "name the variable that holds your key: key_env under [engine]"
        )
        return RefusedError(text, hint=hint, partial=partial, status=status, ends="node")
    if status == 404:
        text = f"{who} has no model {model!r}, or base_url is not the right one: {said.message}"
        hint = "source is what the provider calls the model; base_url ends where /chat/completions or the like begins"
        return RefusedError(text, hint=hint, partial=partial, status=status, ends="cell")
    if status in {400, 422} and (name := _parameter(said, code)):
        text = f"{who} does not take {name!r} for {model}: {said.message}"
        return RefusedError(text, hint=_way_out(name), partial=partial, status=status, ends="cell")
    return refusal(said, status, partial)


def _parameter(said: ServerSaidError, code: str) -> str:
    """The parameter that is refused; empty if it is something else."""
    given = said.details.get("param")
    by_code = code in {"unsupported_parameter", "unsupported_value", "unknown_parameter"}
    named = given if isinstance(given, str) and re.fullmatch(r"[\w.\[\]]{1,60}", given) else ""
    found = _PARAMETER.search(said.message)
    if (by_code or found) and named:
        return named
    at_the_beginning = _OF_ANTHROPIC.search(said.message)
    return (at_the_beginning[1] if at_the_beginning else "") or (found[1] or "" if found else "")


def _way_out(name: str) -> str:
    if name == "max_tokens":
        return 'set max_tokens_key = "max_completion_tokens" under [engine]'
    if name == "max_completion_tokens":
        return 'set max_tokens_key = "max_tokens" under [engine]'
    return f'set omit = ["{name}"] under [engine] to leave it out'
