"""Rows on their way from a node into the store: checked when they arrive, committed, acknowledged, or set aside.

A row is foreign until it was checked: whatever it holds, the driver goes on, and so does the next start, which is
offered the same row again from the node's spool.
"""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from orchestrator import events as ev
from orchestrator.file_names import log_name
from orchestrator.seeding import share_of
from quants.models import EndpointModel
from results.rows import SchemaError, complete_row
from runners.files import require_contents
from runners.orders import JobOrder, NodeFacts, Place
from runners.outcomes import Outcome
from runners.row import identity_columns, unrun_row

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from orchestrator.journal import Journal
    from orchestrator.plan import Plan
    from orchestrator.progress import Progress
    from orchestrator.rundir import RunDir
    from results.store import RunStore
    from runners.orders import RowReady
    from runners.work import Cell, Job

MOST_ATTEMPTS = 10_000
"""A number above this is no attempt of ours."""
MOST_SET_ASIDE = 100
"""Rows that are kept for a look; what is bad beyond that is only counted."""


class Commits:
    """The one place that writes rows. `acknowledge(node_id, job_id, attempt)` tells a node that a row is safe."""

    def __init__(
        self,
        plan: Plan,
        *,
        run_id: str,
        folder: RunDir,
        store: RunStore,
        journal: Journal,
        progress: Progress,
        acknowledge: Callable[[str, str, int], None],
    ) -> None:
        self._plan, self._run_id, self._folder = plan, run_id, folder
        self._store, self._journal, self._progress = store, journal, progress
        self._acknowledge = acknowledge
        self.cells = {cell.cell_id: cell for cell in plan.cells}
        self.jobs: dict[str, Job] = {}
        self._numbers: dict[str, int] = {}
        self._totals: dict[str, int] = {}
        for job in plan.jobs:
            self.jobs[job.job_id] = job
            self._totals[job.cell_id] = self._numbers[job.job_id] = self._totals.get(job.cell_id, 0) + 1
        self._offered: dict[tuple[str, int], tuple[dict[str, Any], dict[str, bytes], str]] = {}
        self._set_aside = 0

    def job_order(self, job_id: str, attempt: int) -> JobOrder:
        """What a node is told about a job."""
        job = self.jobs[job_id]
        return JobOrder(
            job_id=job_id,
            attempt=attempt,
            exam=job.exam,
            prompt_version=job.prompt_version,
            seed=job.seed,
            number=self._numbers[job_id],
            total=self._totals[job.cell_id],
            task=job.task,
        )

    # --- what arrives -----------------------------------------------------------------------------------------

    def take(self, offer: RowReady, *, node_id: str, hostname: str) -> ev.AttemptOffered | None:
        """The event that a row is; None for one that belongs to no job of this sweep, which is set aside.

        A row of a job of ours that does not fit the table becomes an infrastructure failure of that attempt: the job
        is tried again.
        """
        row = offer.row if isinstance(offer.row, dict) else {}
        job_id, attempt = row.get("job_id"), row.get("attempt")
        known = isinstance(job_id, str) and job_id in self.jobs
        if not known or not isinstance(attempt, int) or not 0 < attempt <= MOST_ATTEMPTS:
            self._keep_bad(offer.row, hostname, f"it belongs to no job of this sweep ({job_id!r}, attempt {attempt!r})")
            if isinstance(job_id, str) and isinstance(attempt, int):
                self._acknowledge(node_id, job_id, attempt)
            return None
        try:
            full = complete_row({**row, "final": False})
            Outcome(full["outcome"])
            require_contents(full, offer.files)
        except (SchemaError, ValueError, TypeError) as error:
            self._keep_bad(row, hostname, str(error))
            reason = f"the node handed over a row that does not fit the table: {error}"
            full = self._unrun(str(job_id), attempt, Outcome.GRADER_CRASH, reason, hostname=hostname)
        self._offered[full["job_id"], attempt] = (full, offer.files, node_id)
        return ev.AttemptOffered(
            job_id=full["job_id"],
            attempt=attempt,
            outcome=full["outcome"],
            outcome_class=full["outcome_class"],
            duration_s=max(0.0, float(offer.duration_s)),
            hardware_class=full["hardware_class"] or "",
            lease_id=offer.lease_id,
            hostname=full["node"] or hostname,
            place_id=full["device"] or "",
            reason=full["error"] or full["outcome"],
            share=share_of(full.get("score"), full.get("score_max")),
        )

    def _keep_bad(self, row: object, hostname: str, why: str) -> None:
        self._set_aside += 1
        self._progress.say(f"{hostname}: a row was set aside: {why}")
        if self._set_aside > MOST_SET_ASIDE:
            return
        with suppress(OSError, ValueError, TypeError):  # worth a look, and not worth losing a sweep for
            folder = self._folder.root / "quarantine"
            folder.mkdir(exist_ok=True)
            text = json.dumps({"why": why, "row": row}, default=repr, indent=1)
            name = log_name(f"row-{self._set_aside}", hostname).removesuffix(".log") + ".json"
            (folder / name).write_text(text, encoding="utf-8", errors="backslashreplace")

    # --- what the state decides -------------------------------------------------------------------------------

    def commit(self, order: ev.Commit) -> None:
        """Writes a row that was offered, and tells its node that it is safe.

        Raises:
            StoreError: it could not be written; the node keeps it.
        """
        row, files, node_id = self._offered.pop((order.job_id, order.attempt))
        self._write({**row, "final": order.final}, order, files)
        self._acknowledge(node_id, order.job_id, order.attempt)

    def drop(self, order: ev.Drop) -> None:
        """Tells a node that a row it offered is in the store already."""
        *_, node_id = self._offered.pop((order.job_id, order.attempt))
        self._acknowledge(node_id, order.job_id, order.attempt)

    def commit_unrun(self, order: ev.CommitUnrun) -> None:
        """Writes the final row of a job that could not be run.

        Raises:
            StoreError: it could not be written.
        """
        outcome = Outcome(order.outcome)
        place = {"hostname": order.hostname, "place_id": order.place_id}
        row = self._unrun(order.job_id, order.attempt, outcome, order.reason, **place)
        self._journal.append("failed_unrun", **plain(order))
        self._write({**row, "final": True}, ev.Commit(order.job_id, order.attempt, final=True))

    def _unrun(
        self, job_id: str, attempt: int, outcome: Outcome, reason: str, *, hostname: str, place_id: str = ""
    ) -> dict[str, Any]:
        job = self.jobs[job_id]
        identity = identity_columns(
            self._plan.name,
            self.cells[job.cell_id],
            self.job_order(job_id, attempt),
            run_id=self._run_id,
            scoring=self._plan.scoring.get(job.exam),
            node=NodeFacts(hostname=hostname),
            place=_bare_place(self.cells[job.cell_id], place_id),
        )
        return unrun_row(identity, outcome=outcome, error=reason, at=datetime.now(UTC))

    def _write(self, row: dict[str, Any], order: ev.Commit, files: Mapping[str, bytes] | None = None) -> None:
        is_new = self._store.commit(row, (files or {}).get)
        kinds = {"outcome": row["outcome"], "outcome_class": row["outcome_class"]}
        self._journal.append("committed", durable=True, **plain(order), **kinds, new=is_new)
        self._progress.committed(row)


def _bare_place(cell: Cell, place_id: str) -> Place:
    """A place of which only the id is known."""
    if isinstance(cell.model, EndpointModel):
        return Place(devices=(), endpoint=place_id)
    return Place(devices=tuple(place_id.split("+")))


def plain(value: Any) -> dict[str, Any]:
    """The fields of an event or instruction, for a line of the journal."""
    return {name: getattr(value, name) for name in value.__slots__}
