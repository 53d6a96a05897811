"""One sweep under faults: its spec, its run folder on a small disk, and the command that is started again and again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.plan import Plan
from results.store import read_run
from tests.chaos.cluster import ROOT
from tests.chaos.disks import Disk

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.chaos.host import Host

QUANTS = ("Q8_0", "Q2_K")
VARIANTS = {"long": 1024, "short": 200}
"""Name and token limit: `long` finishes its programs, `short` is cut off in the middle of them."""
CONTEXT = 2048
RUN_BYTES, RUN_INODES = 16 << 20, 1500

SPEC = """\
name = "chaos"
seeds = "1-{seeds}"
exams = ["todo"]
[engine]
kind = "{engine}"
context = {context}
threads = 1
[limits]
load_timeout_s = 60
generation_timeout_s = 120
[[models]]
name = "stand-in"
source = "{models}"
quants = {quants}
{variants}
"""
VARIANT = '[[models.variants]]\nname = "{name}"\nsampling = {{ max_tokens = {tokens} }}\n'


def spec_text(models: Path, *, seeds: int, engine: str) -> str:
    """The spec: quants x variants x seeds jobs of about a second each, over the model files in `models`."""
    return SPEC.format(
        seeds=seeds,
        engine=engine,
        context=CONTEXT,
        models=models,
        quants=json.dumps(QUANTS),
        variants="".join(VARIANT.format(name=name, tokens=tokens) for name, tokens in VARIANTS.items()),
    )


@dataclass(slots=True)
class Start:
    """One start of the command. `code` is None while it runs; `killed` says that a fault ended it.

    `sent` are the signals that it got.
    """

    process: subprocess.Popen[bytes]
    began_s: float
    log: Path
    killed: bool = False
    code: int | None = None
    sent: set[int] = field(default_factory=set)

    @property
    def text(self) -> str:
        """All that it has said."""
        return self.log.read_text(encoding="utf-8", errors="replace")


@dataclass(slots=True)
class Sweep:
    """A run folder and the starts of its command."""

    folder: Path
    host: Host
    environment: Mapping[str, str]
    models: Path
    address: str
    seeds: int
    engine: str = "embedded"
    starts: list[Start] = field(default_factory=list)
    disk: Disk = field(init=False)
    """Where the run folder lies."""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.disk = Disk(self.folder / "disk", size_bytes=RUN_BYTES, inodes=RUN_INODES)
        text = spec_text(self.models, seeds=self.seeds, engine=self.engine)
        (self.folder / "chaos.toml").write_text(text)

    @property
    def run_folder(self) -> Path:
        """What --out names."""
        return self.disk.folder / "run"

    @property
    def journal(self) -> Path:
        """The run's journal."""
        return self.run_folder / "journal.jsonl"

    def start(self, *more: str) -> Start:
        """Starts the command, the same each time (but for `--retry-failed`)."""
        words = [sys.executable, "-m", "orchestrator", "run", str(self.folder / "chaos.toml")]
        words += ["--out", str(self.run_folder), "--address", self.address, *more]
        log = self.folder / f"start-{len(self.starts) + 1}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=self.environment,
                start_new_session=True,
            )
        self.host.owned.add(process.pid)
        self.starts.append(Start(process, time.monotonic(), log))
        return self.starts[-1]

    @property
    def last(self) -> Start:
        """The latest start."""
        return self.starts[-1]

    @property
    def running(self) -> bool:
        """Whether the command runs now."""
        if not self.starts:
            return False
        start = self.last
        if start.code is None and (code := start.process.poll()) is not None:
            start.code = code
            self.host.owned.discard(start.process.pid)
        return start.code is None

    def visit_nodes(self) -> None:
        """Has a new agent started on every node, which clears away what killed ones left."""
        words = [sys.executable, "-m", "orchestrator", "nodes", "--address", self.address]
        with (self.folder / "nodes.log").open("wb") as log:
            process = subprocess.Popen(words, stdout=log, stderr=log, cwd=ROOT, env=self.environment)
            self.host.owned.add(process.pid)
            process.wait(180)
            self.host.owned.discard(process.pid)

    def signal(self, number: int) -> None:
        """Sends the driver a signal."""
        if self.running:
            self.last.killed = self.last.killed or number == signal.SIGKILL
            self.last.sent.add(number)
            self.last.process.send_signal(number)

    def rows(self) -> list[dict[str, Any]]:
        """Every attempt that is in the store."""
        found: list[dict[str, Any]] = read_run(self.run_folder).table.to_pylist()
        return found

    def events(self) -> list[dict[str, Any]]:
        """The journal's lines, what is torn at the end left out."""
        found = []
        try:
            lines = self.journal.read_bytes().split(b"\n")
        except OSError:
            return []
        for line in lines[:-1]:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict):
                found.append(event)
        return found

    def committed(self) -> int:
        """How many rows the driver has committed so far, by its journal."""
        try:
            return self.journal.read_bytes().count(b'"event":"committed"')
        except OSError:
            return 0

    def plan(self) -> Plan:
        """The plan that the first start made."""
        return Plan.from_json((self.run_folder / "plan.json").read_text(encoding="utf-8"))

    def close(self) -> None:
        """Ends what still runs and gives the disk back."""
        if self.running:
            self.last.process.kill()
            self.last.process.wait()
            self.host.owned.discard(self.last.process.pid)
        self.disk.remove()
