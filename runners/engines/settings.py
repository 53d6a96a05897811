"""How a model is served: the settings of each kind of engine, and which of them make results comparable."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal, Self, TypeAlias, TypeVar

from runners.engines.own_args import refuse_own
from runners.engines.secret_args import refuse_secrets
from runners.errors import RunnersError

JSON: TypeAlias = "dict[str, JSON] | list[JSON] | str | int | float | bool | None"
OnOffAuto: TypeAlias = Literal["on", "off", "auto"]

# Where a server runs or how long we wait for it says nothing about what it answers.
_APART = {"comparable": False}
MOST_CONCURRENCY = 256
MOST_PRICE = 1e9


@dataclass(frozen=True, slots=True)
class TextFile:
    """A text that a setting points to. The text goes with the plan to every node; the path only says where it was."""

    path: str
    text: str

    @property
    def sha256(self) -> str:
        """Of the text, 64 hex digits."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """What the settings of every engine have. A kind of engine has a subclass, and only its fields are identity.

    A field that is added later defaults to None, or it changes the identity of every earlier result.
    """

    kind: ClassVar[str] = ""
    """Which engine: one of `runners.engines.engine_kinds()`."""
    load_timeout_s: float = field(default=900.0, metadata=_APART)
    """How long a load, or a connection to an endpoint, may take before it is given up."""

    def comparable(self) -> dict[str, JSON]:
        """The settings that make results comparable, as JSON: texts by their sha256, without those that are None."""
        values: dict[str, JSON] = {"kind": self.kind}
        for each in fields(self):
            value: Any = getattr(self, each.name)
            if not each.metadata.get("comparable", True) or value is None:
                continue
            if isinstance(value, TextFile):
                value = {"sha256": value.sha256}
            values[each.name] = list(value) if isinstance(value, tuple) else value
        return values

    @property
    def program(self) -> str | None:
        """What a spec names that a node has to have: the path of the program that is to serve, or the variable that
        holds an endpoint's key. None: nothing.
        """
        return None

    def with_program(self, _path: str) -> Self:
        """The settings with the program that a node found; of an engine that has none, as they are."""
        return self

    @property
    def asks_for_cpu(self) -> bool:
        """Whether the model is to be computed on the CPU, also where there is a GPU."""
        return False

    def not_counted(self) -> tuple[str, ...]:
        """Settings whose memory the footprint of a model does not know, as a person knows them."""
        return ()

    def to_json(self) -> dict[str, Any]:
        """All settings as a JSON object; `runners.engines.settings_from_json` reads it back."""
        values: dict[str, Any] = {"kind": self.kind}
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, TextFile):
                value = {"path": value.path, "text": value.text}
            values[each.name] = list(value) if isinstance(value, tuple) else value
        return values

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Self:
        """The settings of this kind out of what `to_json` wrote; `TypeError` if they are damaged."""
        values = {name: value for name, value in raw.items() if name != "kind"}
        for name, value in values.items():
            if isinstance(value, dict):
                values[name] = TextFile(**value)
            elif isinstance(value, list):
                values[name] = tuple(value)
        return cls(**values)


Own = TypeVar("Own", bound=EngineSettings)


def of_kind(settings: EngineSettings, own: type[Own]) -> Own:
    """The settings as those of the engine that they are given to; `TypeError` if they are another's."""
    if not isinstance(settings, own):
        msg = f"{own.kind} was given settings of {settings.kind}"
        raise TypeError(msg)
    return settings


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSettings(EngineSettings):
    """What the settings of every engine have that asks a server which is not ours.

    How much may be asked of it is that server's to say, whatever number of nodes asks. Made with numbers that let
    nothing through they raise `RunnersError`.
    """

    takes_sampling: ClassVar[frozenset[str]] = frozenset(
        {"temperature", "top_p", "top_k", "min_p", "repeat_penalty", "presence_penalty", "frequency_penalty"}
        | {"max_tokens"}
    )
    """Which settings of `runners.chat.Sampling` can be sent."""
    leaves_sampling: ClassVar[bool] = False
    """Whether what the spec does not name is left to the provider's default, and not set to ours."""
    concurrency: int = field(default=1, metadata=_APART)
    """Requests that may be under way at once, over all nodes of a sweep."""
    requests_per_minute: float | None = field(default=None, metadata=_APART)
    """Requests that may be begun in a minute, over all nodes of a sweep; None: as many as there are answers."""
    price_in: float | None = field(default=None, metadata=_APART)
    """What a million tokens of a prompt cost, in `currency`; None: it is not known."""
    price_cached: float | None = field(default=None, metadata=_APART)
    """What a million of those cost that come from the provider's cache; None: as much as the others."""
    price_out: float | None = field(default=None, metadata=_APART)
    """What a million generated tokens cost, reasoning included."""
    currency: str | None = field(default=None, metadata=_APART)
    """Of the prices, such as `USD`."""

    def __post_init__(self) -> None:
        """Refuse what could never be kept."""
        if not 1 <= self.concurrency <= MOST_CONCURRENCY:
            raise RunnersError(f"concurrency is from 1 to {MOST_CONCURRENCY}, not {self.concurrency}")
        if self.requests_per_minute is not None and not 0 < self.requests_per_minute < math.inf:
            raise RunnersError(f"requests_per_minute is a number above 0, not {self.requests_per_minute:g}")
        prices = (self.price_in, self.price_cached, self.price_out)
        if any(price is not None and not 0 <= price <= MOST_PRICE for price in prices):
            raise RunnersError(f"a price is for a million tokens, from 0 to {MOST_PRICE:,.0f}")
        if (self.price_in is None) != (self.price_out is None) or (self.price_in is None and self.price_cached):
            raise RunnersError("price_in and price_out are given together, and price_cached with them")

    @property
    def provider(self) -> str:
        """Who answers: a name, or the base URL of a server. It is part of what identifies the model."""
        return self.kind

    @property
    def is_local(self) -> bool:
        """Whether each node asks a server of its own, which computes there."""
        return False

    @property
    def left_out(self) -> frozenset[str]:
        """Settings of `runners.chat.Sampling` that are not sent, as the model does not take them."""
        return frozenset()

    @property
    def places(self) -> int:
        """How many ask beside each other: no more than may each begin a request in every minute."""
        limit = self.requests_per_minute
        return self.concurrency if limit is None else max(1, min(self.concurrency, int(limit)))

    @property
    def pause_s(self) -> float:
        """Seconds between two requests of one place.

        Places know nothing of each other, and may all ask in the same moment: each has a whole number of requests a
        minute, so that there is no minute in which they have more than the limit together.
        """
        limit = self.requests_per_minute
        if limit is None:
            return 0.0
        return 60.0 / (limit if limit < 1 else int(limit) // self.places)


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaCppSettings(EngineSettings):
    """What llama.cpp's server takes, however it is started."""

    context: int
    """Tokens of context for each slot (prompt and reply together)."""
    slots: int = 1
    """Requests served at once; each has a context of its own."""
    gpu_layers: int | None = None
    """Layers placed on the GPU; None: all of them. Where there is no GPU it has no effect."""
    cpu_moe_layers: int | None = None
    """Layers, counted from the first, whose mixture-of-experts weights stay in host memory; None: none of them."""
    devices: int | Literal["all"] | None = None
    """GPUs of one machine that the model is spread over; "all": as many as it has; None: one."""
    split_mode: Literal["layer", "row"] | None = None
    """How it is spread: whole layers (the engine's default), or the rows of each matrix."""
    tensor_split: tuple[float, ...] | None = None
    """The share of each GPU, in the order of the machine's devices; None: by their memory."""
    offload: Literal["never", "auto", "experts"] = field(default="never", metadata=_APART)
    """What a plan may keep in host memory of a model that fits no place whole; what it decided is in `gpu_layers` and
    `cpu_moe_layers`."""
    threads: int | None = None
    """CPU threads for decoding and prefill; None: the engine's choice (physical cores)."""
    cache_type_k: str = "f16"
    """Type of the K cache: f32, f16, bf16, q8_0, q5_1, q5_0, q4_1, q4_0, iq4_nl."""
    cache_type_v: str = "f16"
    """Type of the V cache; a quantized one needs flash attention."""
    flash_attention: OnOffAuto = "auto"
    """Flash attention; auto lets the engine decide for the device."""
    batch: int = 2048
    """Prompt tokens handed over at once (logical batch)."""
    ubatch: int = 512
    """Prompt tokens computed at once (physical batch); sizes the compute buffer."""
    mmap: bool = True
    """Map the file instead of reading it: loads faster, and its pages count as file pages."""
    swa_full: bool = False
    """Keep a full-size cache for layers with a sliding window."""
    reasoning: OnOffAuto = "auto"
    """Whether a model that can think does so; auto leaves it to the chat template."""
    reasoning_budget: int | None = None
    """Most tokens of reasoning before the engine ends it; None: no limit."""

    @property
    def asks_for_cpu(self) -> bool:
        """Whether no layer is to be on a GPU."""
        return self.gpu_layers == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedSettings(LlamaCppSettings):
    """The server inside the xllamacpp wheel, which comes with quantsweep."""

    kind = "embedded"


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaServerSettings(LlamaCppSettings):
    """The program llama-server of the node.

    Made with a secret among `extra_args` they raise `runners.engines.secret_args.SecretArgumentError`, and with one
    that repeats a setting of ours `runners.engines.own_args.OwnArgumentError`.
    """

    kind = "llama-server"
    binary: str | None = field(default=None, metadata=_APART)
    """Path of the program on the node; None: found on the node."""
    chat_template: TextFile | None = None
    """A Jinja template in place of the model's own."""
    grammar: TextFile | None = None
    """A GBNF grammar that every answer has to follow."""
    extra_args: tuple[str, ...] = ()
    """Arguments passed on to the program as they are, after ours."""

    def __post_init__(self) -> None:
        """Refuse what may not be there: these settings are written into every row, and are all that identifies it."""
        refuse_secrets(self.extra_args)
        refuse_own(self.extra_args)

    @property
    def program(self) -> str | None:
        """`binary`."""
        return self.binary

    def with_program(self, path: str) -> Self:
        """The settings with the program that a node found."""
        return replace(self, binary=path)

    def not_counted(self) -> tuple[str, ...]:
        """The extra arguments: what they cost in memory is not known."""
        return self.extra_args
