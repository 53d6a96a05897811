"""The files of a loaded model, held open for as long as they are served: whether they are still what was verified.

A file that is overwritten under a server that maps it changes the model between two answers, without a word. So the
files are verified before every load (`quants.cache.fetch` hashes anew what has changed), held open, and looked at
after every answer, which costs a few stats. A file that was replaced or deleted does not matter to a server that has
it open; the next load finds that out.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from runners.chat import ChatError
from runners.outcomes import Outcome

if TYPE_CHECKING:
    from pathlib import Path

    from quants.artifact import Artifact


class ModelChangedError(ChatError):
    """A file was written to while it was served: nobody can say which model gave the answer."""

    outcome = Outcome.ARTIFACT


class HeldFiles:
    """Open descriptors of an artifact's files, and what they were like when they were opened. `close` gives them up."""

    def __init__(self, artifact: Artifact, first: Path) -> None:
        """Opens the files of `artifact`, whose first one lies at `first`. Raises `OSError` if one cannot be opened."""
        self._held: list[tuple[Path, int, os.stat_result]] = []
        root = first.parents[len(artifact.files[0].path.split("/")) - 1]
        try:
            for file in artifact.files:
                path = root / file.path
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                self._held.append((path, descriptor, os.fstat(descriptor)))
        except BaseException:
            self.close()
            raise

    def written_to(self) -> Path | None:
        """The file that was written to since, whether it is still at its place or not; None if none was."""
        for path, descriptor, before in self._held:
            now = os.fstat(descriptor)
            if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                return path
        return None

    def moved(self) -> Path | None:
        """The file in whose place another one lies, or none; None if all are where they were."""
        for path, _, before in self._held:
            try:
                if not os.path.samestat(path.stat(), before):
                    return path
            except OSError:
                return path
        return None

    def close(self) -> None:
        """Gives the files up; may be called again."""
        held, self._held = self._held, []
        for _, descriptor, _ in held:
            with contextlib.suppress(OSError):
                os.close(descriptor)
