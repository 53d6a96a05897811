"""What tests of the store look at: marks, files, and files of one attempt as earlier versions wrote them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from results.store import RunStore


def finals(store: RunStore) -> dict[tuple[str, int], bool]:
    return {(row["job_id"], row["attempt"]): row["final"] for row in store.rows()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_shard(folder: Path, name: str, columns: dict[str, Any]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / name)
    return folder / name
