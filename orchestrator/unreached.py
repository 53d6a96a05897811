"""Models of a plan whose source cannot be asked at the moment: what is not known of them, said instead of guessed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class Unreached:
    """A model of a spec, and why its source does not answer."""

    model: ModelSpec
    reason: str

    def reports(self, jobs: int) -> list[dict[str, Any]]:
        """A line of the plan for each cell as far as the spec names it, in the form of `preview.cell_report`.

        Args:
            jobs: of a cell.
        """
        quants = ["all"] if isinstance(self.model.quants, str) else self.model.quants
        variants: list[str | None] = [variant.name for variant in self.model.variants] or [None]
        return [
            {
                "model": self.model.name,
                "quant": quant,
                "variant": variant,
                "source": self.model.source,
                "file_bytes": None,
                "file_sha256": None,
                "engine": None,
                "context": None,
                "not_counted": [],
                "predicted_bytes": None,
                "jobs": jobs,
                "verdicts": {},
                "missing": None,
                "unreached": self.reason,
            }
            for variant in variants
            for quant in quants
        ]


def said_of(unreached: Sequence[Unreached]) -> list[str]:
    """What a plan could not know, in a sentence for each reason."""
    whose: dict[str, list[str]] = {}
    for each in unreached:
        whose.setdefault(_where(each), []).append(each.model.name)
    return [
        f"not known of {', '.join(names)}: whether the quants are there, their size, and what fits ({reason})"
        for reason, names in whose.items()
    ]


def _where(each: Unreached) -> str:
    """The reason without the repository in front, as it is the same for all of one Hub."""
    first, _, rest = each.reason.partition(" ")
    return rest if first.startswith("hf:") else each.reason
