"""Calls that may hang, waited for no longer than they are worth."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
_LOOK_S = 0.1


class HungError(Exception):
    """A call did not come back in time. Its thread is left behind, and ends with the process."""


def within(seconds: float, what: str, call: Callable[[], T], *, once_cancelled: Callable[[], bool] | None = None) -> T:
    """What `call` returns or raises, if it does so within `seconds`; it runs in a thread of its own.

    With `once_cancelled` the seconds count from the moment it says so: for work that takes as long as it takes, looks
    for that wish itself, and may hang where it does not.

    Python cannot end a thread that hangs in a driver or on a disk. What can be done is not to hang with it.

    Raises:
        HungError: `what` did not come back in time.
    """
    returned: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            returned.append(call())
        except BaseException as error:  # whatever it is, it belongs to whoever waits for the call
            raised.append(error)

    thread = threading.Thread(target=run, name=f"within-{what}", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no thread to be had: better to wait without a bound than not to call at all
        run()
    else:
        while once_cancelled is not None and thread.is_alive() and not once_cancelled():
            thread.join(_LOOK_S)
        thread.join(seconds)
    if raised:
        raise raised[0]
    if not returned:
        raise HungError(f"{what} did not come back within {seconds:g} s")
    return returned[0]
