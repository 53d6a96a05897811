"""A lease of a model that somebody else serves: a real server, of which this node has a URL and a key and no more."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest

import runners.engines.embedded
from quants.models import EndpointModel
from runners.chat import Sampling
from runners.engines import get_endpoint_engine, get_engine
from runners.engines.settings import EmbeddedSettings
from runners.errors import RunnersError
from runners.orders import CellOrder, ModelLoaded, PhaseChanged, Place, RowReady
from runners.work import Cell
from tests.runners import somebody
from tests.runners.test_cell import JOB, Lease, leases, row_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from runners.engines.base import Served

__all__ = ["leases"]

KEY = "a-key-that-nobody-else-has-key"


@pytest.fixture(scope="module")
def theirs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Somebody else's server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runners.engines.embedded, "new_key", lambda: KEY)
        settings = EmbeddedSettings(context=1024, threads=1, slots=2)
        log_path = tmp_path_factory.mktemp("theirs") / "log"
        served = get_engine("embedded").load(tiny_model, settings, log_path=log_path, device="CPU")
    yield served
    served.stop()


def order_for(**settings: Any) -> CellOrder:
    model = EndpointModel("elsewhere", "somebody", "tiny")
    engine = somebody.SomebodySettings(**{"load_timeout_s": 5.0, **settings})
    return CellOrder(
        run_id="run",
        sweep="test",
        lease_id="L1",
        cell=Cell("c1", model, "", engine, Sampling(temperature=0.8, max_tokens=30)),
        place=Place(devices=(), endpoint="somebody#2", hardware_class="endpoint-somebody-1"),
        scoring={"todo": "strict"},
        generation_timeout_s=60.0,
        overlap_grading=True,
    )


def test_rows_have_answers_and_rates_and_say_why_there_is_no_file_and_no_device(
    theirs: Served, monkeypatch: pytest.MonkeyPatch, leases: list[Lease]
) -> None:
    assert theirs.base_url is not None
    somebody.register(monkeypatch, url=theirs.base_url, key=KEY)
    lease = Lease(order_for())
    leases.append(lease)
    lease.cell.assign(JOB)
    lease.cell.close()
    row = row_of(lease.wait_for(RowReady))
    ended = lease.finish()
    assert (ended.how, ended.reason) == ("done", "")
    phases = [event.phase for event in lease.seen if isinstance(event, PhaseChanged)]
    assert not {"fetching", "waiting for device", "pausing"} & set(phases)
    assert (row["outcome"], row["outcome_class"], row["answer_tokens"]) == ("max_tokens", "budget", 30)
    assert (row["engine"], row["engine_settings"]) == ("somebody", '{"kind":"somebody"}')
    assert (row["device"], row["devices"], row["hardware_class"]) == ("somebody#2", 0, "endpoint-somebody-1")
    assert (row["model"], row["quant"]) == ("elsewhere", "none")
    assert (row["provider"], row["provider_model"]) == ("somebody", "tiny")
    assert row["decode_tps"] > 0
    nothing = ("file_sha256", "file_paths", "file_bytes", "repo", "load_mode", "cold", "parameters", "bits_per_weight")
    nowhere = ("peak_ram_bytes", "peak_vram_bytes", "energy_j", "backend", "engine_device", "buffer_model_bytes")
    reasons = json.loads(row["null_reasons"])
    assert {row.get(name) for name in (*nothing, *nowhere)} == {None}
    assert {reasons[name] for name in nothing} == {"served elsewhere (somebody tiny): no file of it is known"}
    assert {reasons[name] for name in nowhere} == {"served elsewhere (somebody tiny): on no device of this machine"}
    assert KEY not in json.dumps(row), "a key stays where it is"
    assert theirs.is_alive(), "nobody ends what is not ours"


def test_a_rate_limit_lets_requests_begin_a_pause_apart(
    theirs: Served, monkeypatch: pytest.MonkeyPatch, leases: list[Lease]
) -> None:
    assert theirs.base_url is not None
    somebody.register(monkeypatch, url=theirs.base_url, key=KEY)
    lease = Lease(order_for(requests_per_minute=120.0, concurrency=1))
    leases.append(lease)
    lease.cell.assign(JOB)
    lease.cell.assign(dataclasses.replace(JOB, job_id="v1-b", seed=2, number=2))
    lease.cell.close()
    lease.finish()
    assert [event.phase for event in lease.seen if isinstance(event, PhaseChanged)].count("pausing") >= 1
    assert sum(isinstance(event, RowReady) for event in lease.seen) == 2


def test_an_endpoint_that_nobody_answers_at_ends_the_lease_with_the_engines_words(
    monkeypatch: pytest.MonkeyPatch, leases: list[Lease]
) -> None:
    somebody.register(monkeypatch, url="http://127.0.0.1:9", key=KEY)
    lease = Lease(order_for())
    leases.append(lease)
    lease.cell.assign(JOB)
    ended = lease.finish()
    assert (ended.how, ended.outcome) == ("failed", "server_start")
    assert ended.reason.startswith("nobody answers at http://127.0.0.1:9")
    assert not any(isinstance(event, ModelLoaded) for event in lease.seen)


def test_a_kind_of_engine_serves_files_or_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    somebody.register(monkeypatch)
    assert get_endpoint_engine("somebody").kind == "somebody"
    with pytest.raises(RunnersError, match="the engine 'somebody' loads no files"):
        get_engine("somebody")
    with pytest.raises(RunnersError, match="the engine 'embedded' loads files"):
        get_endpoint_engine("embedded")
