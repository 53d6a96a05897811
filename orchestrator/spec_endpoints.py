"""The keys of [engine] that are for servers which are not ours: where they are, what may be asked, what it costs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_Price = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False, strict=False)]
_Parameter = Annotated[str, Field(pattern=r"^[a-z_]{1,40}$")]


def _address(url: str) -> str:
    from runners.engines.endpoint_settings import sound_url
    from runners.errors import RunnersError

    try:
        return sound_url(url)
    except RunnersError as error:
        raise ValueError(f"{error.message}; {error.hint}" if error.hint else error.message) from None


def _variable(name: str) -> str:
    """Refuses what is no name of a variable without showing it: it may be the key itself."""
    from runners.engines.endpoint_settings import variable_name
    from runners.errors import RunnersError

    try:
        return variable_name(name)
    except RunnersError as error:
        raise ValueError(f"{error.message}; {error.hint}") from None


class EndpointKeys(BaseModel):
    """Part of `orchestrator.spec.EngineSpec`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    base_url: Annotated[str, AfterValidator(_address)] | None = None
    key_env: Annotated[str, AfterValidator(_variable)] | None = None
    concurrency: Annotated[int, Field(ge=1, le=256)] | None = None
    requests_per_minute: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False, strict=False)] | None = None
    omit: list[_Parameter] | None = None
    max_tokens_key: Literal["max_tokens", "max_completion_tokens"] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    price_in: _Price | None = None
    price_cached: _Price | None = None
    price_out: _Price | None = None
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] | None = None
