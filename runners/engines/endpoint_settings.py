"""Settings of the engines that ask servers which are not ours: where these are, who we are to them, what they take."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias
from urllib.parse import urlsplit

from quants.secrets import holds_secret
from runners.engines.keys import is_variable_name
from runners.engines.settings import EndpointSettings
from runners.errors import RunnersError

Effort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
# Who answers is part of the model's identity already (`EndpointModel.provider`).
_APART = {"comparable": False}
OPENAI_URL = "https://api.openai.com/v1"
ANTHROPIC_URL = "https://api.anthropic.com/v1"
_MOST_CHARS = 500


def sound_url(url: str) -> str:
    """`url` as it is kept: without a slash at the end.

    Raises:
        RunnersError: it is no address of a server, or holds a secret; the message does not show it then.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise RunnersError("base_url is no address") from None
    if len(url) > _MOST_CHARS or not url.isprintable() or " " in url:
        raise RunnersError("base_url is no address: it is too long, or has blanks or control characters")
    if parts.username is not None or parts.password is not None or holds_secret(url):
        hint = 'take it out, and name a variable that holds the key: key_env = "MY_KEY"'
        raise RunnersError("base_url holds a secret, which the plan and every row would show", hint)
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise RunnersError("base_url has a query or a fragment; requests put their own path behind it")
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise RunnersError('base_url is an address such as "https://api.example.com/v1"')
    return url.rstrip("/")


def is_loopback(base_url: str) -> bool:
    """Whether the server is on this very node: then no proxy lies between."""
    host = urlsplit(base_url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def variable_name(name: str) -> str:
    """`name`, if it can be that of a variable.

    Raises:
        RunnersError: it cannot, or looks like a key; the message does not show it.
    """
    if not is_variable_name(name) or holds_secret(name):
        hint = 'write its name, such as key_env = "OPENAI_API_KEY", and put the key into the variable'
        raise RunnersError("key_env names the variable that holds the key; this is no name of one", hint)
    return name


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpEndpointSettings(EndpointSettings):
    """What those have that are reached by HTTP. Made with an address or a name that cannot be they raise
    `RunnersError`, which shows neither.
    """

    leaves_sampling = True
    default_url: ClassVar[str] = ""
    default_key_env: ClassVar[str | None] = None
    """The variable with the key of the server at `default_url`."""
    base_url: str = field(default="", metadata=_APART)
    """Where requests go; their path is put behind it. Empty: the provider's own."""
    key_env: str | None = field(default=None, metadata=_APART)
    """The variable of the node that holds the key; None: the provider's usual one, and none for another server."""
    omit: tuple[str, ...] | None = None
    """Parameters that are not sent although they are set, as the model does not take them."""

    def __post_init__(self) -> None:
        """Check, and fill in what follows from the rest."""
        EndpointSettings.__post_init__(self)
        url = sound_url(self.base_url or self.default_url)
        object.__setattr__(self, "base_url", url)
        if self.key_env is None and url == self.default_url:
            object.__setattr__(self, "key_env", self.default_key_env)
        if self.key_env is not None:
            variable_name(self.key_env)

    @property
    def provider(self) -> str:
        """The base URL."""
        return self.base_url

    @property
    def left_out(self) -> frozenset[str]:
        """Those of `omit` that are settings of sampling."""
        return frozenset(self.omit or ()) & self.takes_sampling

    @property
    def is_local(self) -> bool:
        """Whether each node asks a server of its own: the address is the node's loopback."""
        return is_loopback(self.base_url)

    @property
    def program(self) -> str | None:
        """`key_env`: a node is asked whether it has it."""
        return self.key_env


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAISettings(HttpEndpointSettings):
    """Any server of OpenAI's Chat Completions API."""

    kind = "openai"
    default_url = OPENAI_URL
    default_key_env = "OPENAI_API_KEY"
    takes_sampling = frozenset(
        {"temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "max_tokens"}
    )
    max_tokens_key: Literal["max_tokens", "max_completion_tokens"] | None = field(default=None, metadata=_APART)
    """Which parameter has the cap; None: OpenAI's own newer one there, `max_tokens` elsewhere."""
    reasoning_effort: Effort | None = None
    """How much a model that reasons is to do of it; None: its own default."""

    @property
    def tokens_key(self) -> str:
        """The name under which the cap is sent."""
        return self.max_tokens_key or ("max_completion_tokens" if self.base_url == OPENAI_URL else "max_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnthropicSettings(HttpEndpointSettings):
    """Any server of Anthropic's Messages API."""

    kind = "anthropic"
    default_url = ANTHROPIC_URL
    default_key_env = "ANTHROPIC_API_KEY"
    takes_sampling = frozenset({"temperature", "top_p", "top_k", "max_tokens"})
    reasoning: Literal["auto", "on", "off"] | None = None
    """Whether the model is to think: off, or on as much as it sees fit; None and auto: nothing is said."""
    reasoning_budget: int | None = None
    """Most tokens of thinking, where it is bounded by tokens."""
    reasoning_effort: Effort | None = None
    """How much effort it is to make."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OllamaSettings(HttpEndpointSettings):
    """An Ollama, by its own API."""

    kind = "ollama"
    leaves_sampling = False
    default_url = "http://127.0.0.1:11434"
    context: int = 16384
    """Tokens of context that the model is loaded with (`num_ctx`)."""
    reasoning: Literal["auto", "on", "off"] | None = None
    """Whether a model that can think does so; None and auto: as it does by itself."""
    reasoning_effort: Effort | None = None
    """How much it is to think, of a model that takes a level."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaSwapSettings(HttpEndpointSettings):
    """A llama-swap: llama.cpp behind a proxy that brings up models when they are asked for."""

    kind = "llama-swap"
    leaves_sampling = False
    default_url = "http://127.0.0.1:8080"
