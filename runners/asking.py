"""One attempt's requests: each begins when it may, waits where the server asks for that, and reports its tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from runners.chat import AskedToWaitError, CancelledError
from runners.pacing import AskedWaits

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from typing import Protocol

    from runners.chat import ChatRequest, ChatResult, Event
    from runners.engines.base import Served
    from runners.orders import Phase
    from runners.pacing import Pacing

    class SayPhase(Protocol):
        """Tells what the lease does now."""

        def __call__(
            self, name: Phase, *, tokens: int | None = None, tokens_per_s: float | None = None, note: str | None = None
        ) -> None:
            """See `runners.orders.PhaseChanged`."""
            ...


PROGRESS_EVERY_S: Final = 0.25
NOTE_CHARS: Final = 300
WORDS_ON_CANCEL: Final = "the sweep was stopped"


class TokenMeter:
    """Turns stream events into a progress report a few times a second, cheaply."""

    def __init__(self, report: Callable[[int, float], None], first_token: Callable[[], None]) -> None:
        self._report, self._first_token = report, first_token
        self._tokens = 0
        self._first_s: float | None = None
        self._next_s = 0.0

    def __call__(self, event: Event) -> None:
        """Takes in one event of the stream."""
        if event.kind not in {"reasoning", "text", "tool"}:
            return
        if self._first_s is None:
            self._first_s = event.at_s
            self._first_token()
            self._next_s = event.at_s + PROGRESS_EVERY_S
        self._tokens += event.tokens or 1
        if event.at_s >= self._next_s:
            self._next_s = event.at_s + PROGRESS_EVERY_S
            self._report(self._tokens, self._tokens / (event.at_s - self._first_s))


class Asker:
    """Asks `served` for the requests of one attempt; its waits are of all of them together."""

    def __init__(
        self,
        served: Served,
        pacing: Pacing,
        *,
        source: str,
        cancelled: threading.Event,
        phase: SayPhase,
        first_token: Callable[[], None],
    ) -> None:
        self._served, self._pacing, self._source = served, pacing, source
        self._cancelled, self._phase, self._first_token = cancelled, phase, first_token
        self._waits = AskedWaits()

    def __call__(self, request: ChatRequest) -> ChatResult:
        """The reply. Raises a `ChatError`; `AskedToWaitError` if the server wants more patience than there is."""
        note: str | None = None
        while True:
            self._wait(note)
            self._pacing.began()
            meter = TokenMeter(self._report, first_token=self._first_token)
            try:
                return self._served.chat(request, cancelled=self._cancelled, on_event=meter)
            except AskedToWaitError as busy:
                wait_s = self._waits.next_s(busy.wait_s)
                if wait_s is None:
                    busy.message += f" (after {self._waits.waited_s:.0f} s in which it was left alone)"
                    raise
                self._pacing.hold(wait_s)
                note = f"asked to wait {wait_s:.0f} s by {self._source}: {busy.message}"[:NOTE_CHARS]

    def _wait(self, note: str | None) -> None:
        if self._pacing.left_s > 0:
            self._phase("pausing", note=note)
            if not self._pacing.wait(self._cancelled):
                raise CancelledError(WORDS_ON_CANCEL)
            self._phase("generating")

    def _report(self, tokens: int, tokens_per_s: float) -> None:
        self._phase("generating", tokens=tokens, tokens_per_s=tokens_per_s)
