"""How an attempt ended, and whose doing that was: the model's, the budget's or the infrastructure's."""

from __future__ import annotations

from enum import StrEnum


class OutcomeClass(StrEnum):
    """Whose doing an outcome is; it decides what the score column holds.

    `model`: scored. `budget`: scored as far as the answer goes and marked, so that it can be run again with
    more. `infrastructure`: no score (null), retried, because a missing reward is not a zero.
    """

    MODEL = "model"
    BUDGET = "budget"
    INFRASTRUCTURE = "infrastructure"


class Outcome(StrEnum):
    """How one attempt ended; the text in the `outcome` column."""

    PASSED = "passed"
    WRONG = "wrong"
    COMPILE_ERROR = "compile_error"
    RUNTIME_ERROR = "runtime_error"
    TIME_LIMIT = "time_limit"
    MEMORY_LIMIT = "memory_limit"
    OUTPUT_LIMIT = "output_limit"
    NO_CODE = "no_code"
    TOOL_FORMAT = "tool_format"
    LOOP = "loop"
    REFUSAL = "refusal"

    MAX_TOKENS = "max_tokens"
    CONTEXT_OVERFLOW = "context_overflow"
    GENERATION_TIMEOUT = "generation_timeout"

    ARTIFACT = "artifact"
    SERVER_START = "server_start"
    UNSUPPORTED_MODEL = "unsupported_model"
    UNREADABLE_MODEL = "unreadable_model"
    REFUSED_SETTINGS = "refused_settings"
    CHANGED_SETTINGS = "changed_settings"
    WRONG_DEVICE = "wrong_device"
    OUT_OF_MEMORY = "out_of_memory"
    PORT_TAKEN = "port_taken"
    LOAD_TIMEOUT = "load_timeout"
    LOAD_STALLED = "load_stalled"
    LOAD_CRASH = "load_crash"
    SERVER_CRASH = "server_crash"
    STALLED = "stalled"
    TRANSPORT = "transport"
    GARBLED = "garbled"
    SANDBOX_START = "sandbox_start"
    GRADER_CRASH = "grader_crash"
    NODE_LOST = "node_lost"
    CANCELLED = "cancelled"

    @property
    def sentence(self) -> str:
        """What a person reads about it, without a full stop."""
        return _SENTENCES[self]


_BUDGET = frozenset({Outcome.MAX_TOKENS, Outcome.CONTEXT_OVERFLOW, Outcome.GENERATION_TIMEOUT})
_INFRASTRUCTURE = frozenset(
    {
        Outcome.ARTIFACT,
        Outcome.SERVER_START,
        Outcome.UNSUPPORTED_MODEL,
        Outcome.UNREADABLE_MODEL,
        Outcome.REFUSED_SETTINGS,
        Outcome.CHANGED_SETTINGS,
        Outcome.WRONG_DEVICE,
        Outcome.OUT_OF_MEMORY,
        Outcome.PORT_TAKEN,
        Outcome.LOAD_TIMEOUT,
        Outcome.LOAD_STALLED,
        Outcome.LOAD_CRASH,
        Outcome.SERVER_CRASH,
        Outcome.STALLED,
        Outcome.TRANSPORT,
        Outcome.GARBLED,
        Outcome.SANDBOX_START,
        Outcome.GRADER_CRASH,
        Outcome.NODE_LOST,
        Outcome.CANCELLED,
    }
)

_SENTENCES: dict[Outcome, str] = {
    Outcome.PASSED: "full marks",
    Outcome.WRONG: "the answer ran and was not fully right",
    Outcome.COMPILE_ERROR: "the answer does not parse or build",
    Outcome.RUNTIME_ERROR: "the program ended with an error",
    Outcome.TIME_LIMIT: "the program did not end within its time",
    Outcome.MEMORY_LIMIT: "the program used more memory than it was given",
    Outcome.OUTPUT_LIMIT: "the program wrote more than it was allowed to",
    Outcome.NO_CODE: "the reply holds no program",
    Outcome.TOOL_FORMAT: "the reply is not in the format that the model's template prescribes for tools",
    Outcome.LOOP: "the model repeated itself until it was stopped",
    Outcome.REFUSAL: "the model declined to answer",
    Outcome.MAX_TOKENS: "the answer was cut off at its token limit",
    Outcome.CONTEXT_OVERFLOW: "the conversation outgrew the context window",
    Outcome.GENERATION_TIMEOUT: "the answer was not finished within its time",
    Outcome.ARTIFACT: "the model's file could not be fetched or did not verify",
    Outcome.SERVER_START: "the engine could not be started or reached",
    Outcome.UNSUPPORTED_MODEL: "the engine does not know this kind of model",
    Outcome.UNREADABLE_MODEL: "the engine cannot read the model's file",
    Outcome.REFUSED_SETTINGS: "the engine refuses the settings that it was given",
    Outcome.CHANGED_SETTINGS: "the engine serves with other settings than those that it was given",
    Outcome.WRONG_DEVICE: "the engine computes on another device than the one that it was given",
    Outcome.OUT_OF_MEMORY: "there was not enough memory for the model and its context",
    Outcome.PORT_TAKEN: "other programs took each port that the engine was given",
    Outcome.LOAD_TIMEOUT: "the engine was not ready within the time for loading",
    Outcome.LOAD_STALLED: "the engine stood still while it loaded the model",
    Outcome.LOAD_CRASH: "the engine ended while it loaded the model",
    Outcome.SERVER_CRASH: "the engine ended while it was serving",
    Outcome.STALLED: "the engine stopped answering while its process lived",
    Outcome.TRANSPORT: "the connection to the engine broke",
    Outcome.GARBLED: "what the engine sent was no reply",
    Outcome.SANDBOX_START: "the sandbox could not be started",
    Outcome.GRADER_CRASH: "the grader itself failed",
    Outcome.NODE_LOST: "the machine was lost",
    Outcome.CANCELLED: "the sweep was stopped",
}


def outcome_class(outcome: Outcome) -> OutcomeClass:
    """Whose doing `outcome` is."""
    if outcome in _BUDGET:
        return OutcomeClass.BUDGET
    if outcome in _INFRASTRUCTURE:
        return OutcomeClass.INFRASTRUCTURE
    return OutcomeClass.MODEL
