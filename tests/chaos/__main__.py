"""Random faults over real sweeps on a real cluster of several nodes on this host, and what must hold after each.

    python -m tests.chaos [--faults 100] [--seed 1] [--minutes 90] [--nodes 3]

Prints each fault as it is done, then a table. Exit 1 on any violation, with the seed that repeats the same faults in
the same order (how far each gets is a matter of timing). `LLAMA_SERVER` names a llama-server: every second sweep is
served by it then. As root, disks are really full and every node has a host name and model files of its own.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from quants.standin import STANDIN_DIR
from tests.chaos.campaign import Campaign
from tests.chaos.cluster import Cluster, base_environment
from tests.chaos.faults import all_faults
from tests.chaos.host import Host, become_reaper
from tests.chaos.report import Report
from tests.chaos.sweep import QUANTS
from tests.chaos.truth import Known, learn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SHORT = (
    "engine killed",
    "grader killed",
    "agent killed",
    "agent stopped",
    "driver killed",
    "state folder: no bytes",
    "model file changed",
)


def main() -> int:
    """Plays sweeps until enough faults were done; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Sweeps under random faults.")
    parser.add_argument("--faults", type=int, default=100, help="how many faults to do (100)")
    parser.add_argument("--short", action="store_true", help="seven faults that mend at once, on two nodes, in 40 s")
    parser.add_argument("--seed", type=int, default=None, help="repeats the faults of an earlier run")
    parser.add_argument("--minutes", type=float, default=180, help="begin no sweep after so many minutes (180)")
    parser.add_argument("--nodes", type=int, default=3, help="nodes of the cluster (3)")
    parser.add_argument("--seeds", type=int, default=20, help="seeds of a sweep; it has four times as many jobs (20)")
    parser.add_argument("--per-sweep", type=int, default=8, help="most faults of one sweep (8)")
    parser.add_argument("--only", default="", help="only faults whose name holds this text")
    parser.add_argument("--keep", action="store_true", help="keep the folder with logs, runs and Ray's session")
    options = parser.parse_args()
    if options.short:
        options.faults, options.nodes, options.seeds, options.per_sweep = len(SHORT), 2, 4, len(SHORT)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _end)  # also where a shell has them ignored: the cluster has to be taken down
    try:
        report = _play(options, seed, folder)
    finally:
        if options.keep:
            say(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    say(report.text(seed))
    return 1 if report.violations else 0


def _end(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def say(text: str) -> None:
    """A line now, also where the output is a file."""
    print(f"{time.strftime('%H:%M:%S')} {text}" if text.startswith("  ") else text, flush=True)


def _learn(
    models: Path, seeds: int, engines: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> dict[str, Known]:
    known: dict[str, Known] = {}
    for engine in engines:
        known |= learn(models, seeds=seeds, engine=engine, folder=folder, environment=environment)
    return known


def _play(options: argparse.Namespace, seed: int, folder: Path) -> Report:
    become_reaper()
    host, report, chance = Host(), Report(), random.Random(seed)
    models = folder / "models"
    models.mkdir()
    for quant in QUANTS:
        shutil.copy(STANDIN_DIR / f"standin-{quant}.gguf", models)
    environment = base_environment(folder)
    engines = ["embedded", *(["llama-server"] if os.environ.get("LLAMA_SERVER") else [])]
    say(f"chaos: seed {seed}, {options.faults} faults, {options.nodes} nodes, engines: {', '.join(engines)}")
    cluster = Cluster(folder, host, nodes=options.nodes, models=models, environment=environment)
    try:
        cluster.begin()
        with ThreadPoolExecutor(1) as beside:  # a cluster takes its time to start, and so do the answers
            learning = beside.submit(_learn, models, options.seeds, engines, folder, environment)
            cluster.start()
            say(f"the cluster is up: {', '.join(node.name for node in cluster.nodes)}")
            known = learning.result()
        say(f"what each of {len(known)} jobs must score is known")
        campaign = Campaign(
            host, cluster, report, chance, known, folder / "sweeps", environment, say, seeds=options.seeds
        )
        table = [fault for fault in all_faults() if options.only in fault.name]
        if options.short:
            table = [fault for fault in table if fault.name in SHORT]
            campaign.gap_s, campaign.longest_s = (0.2, 1.5), 2.0
        campaign.plan_faults(options.faults, table)
        number, end_s = 0, time.monotonic() + options.minutes * 60
        while campaign.queue and time.monotonic() < end_s:
            number += 1
            campaign.engine = engines[number % len(engines)]
            say(f"sweep {number} ({campaign.engine}), {len(campaign.queue)} faults to go")
            campaign.play(number, most_faults=options.per_sweep)
    finally:
        cluster.stop()
        host.kill(lambda _: True)
    return report


if __name__ == "__main__":
    sys.exit(main())
