"""docs/machines.md, run as it stands: three machines, one token, one sweep, the ports it names and no others."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from results.store import read_run
from tests.cluster.machines import Lab, Machine, lab
from tests.cluster.page import HEAD, NODES, PAGE, blocks, bring_together, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.cluster


def documented(machine: Machine) -> Callable[[int], bool]:
    """Whether the page says that this port is open on this machine."""
    table = PAGE.split("## Ports")[1].split("## ")[0]
    rows = re.findall(r"^\| ([\d, to]+) \| (head|every machine) \|", table, re.MULTILINE)
    assert len(rows) == 4
    ranges: list[tuple[int, int]] = []
    for ports, where in rows:
        if where == "every machine" or machine.address == HEAD:
            low_high = [int(each) for each in re.findall(r"\d+", ports)]
            ranges += [(low_high[0], low_high[1])] if "to" in ports else [(each, each) for each in low_high]
    return lambda port: any(low <= port <= high for low, high in ranges)


def beyond_loopback(machine: Machine) -> set[int]:
    return {port for host, port in machine.listening() if not host.startswith("127.") and host != "::1"}


def test_every_block_of_the_page_says_where_it_is_run() -> None:
    named = re.findall(r"^ *```sh(.*)$", PAGE, re.MULTILINE)
    assert named
    assert {name.strip() for name in named} == {
        "every-machine",
        "head",
        "node-token",
        "node",
        "any-machine",
        "stop",
    }


@pytest.fixture
def network() -> Iterator[Lab]:
    with lab() as found:
        yield found


@pytest.mark.slow
def test_three_machines_run_a_sweep_as_the_page_says(network: Lab) -> None:
    head, *nodes = machines = [network.machine(address) for address in (HEAD, *NODES)]
    for block in blocks("every-machine"):
        answers = [machine.run(block) for machine in machines[:2]]
        assert answers[0] == answers[1] or all("Linux" in answer for answer in answers)

    bring_together(head, nodes)
    for machine in machines:
        assert machine.run("stat -c %a ~/.ray ~/.ray/auth_token").split() == ["700", "600"]

    look, sweep = blocks("any-machine")[0].splitlines()
    for machine in machines:
        said = machine.run(f"{look} 2>&1")
        assert all(each.name in said for each in machines)
        assert "start nodes with" not in said, "the page starts them as they should be"
    running = nodes[0].popen(sweep)
    journal = nodes[0].home / "runs" / "quickstart" / "journal.jsonl"
    until(lambda: journal.exists() and journal.read_text().count("lease_started") >= 3, "leases on all machines")
    for machine in machines:
        assert beyond_loopback(machine)
        assert [port for port in beyond_loopback(machine) if not documented(machine)(port)] == []
    out, err = running.communicate(timeout=400)
    assert running.returncode == 0, err
    assert "(raylet)" not in err + out
    rows = read_run(nodes[0].home / "runs" / "quickstart").table.to_pylist()
    assert {row["node"] for row in rows} == {machine.name for machine in machines}

    (stop,) = blocks("stop")
    for machine in reversed(machines):
        machine.run(stop)
        assert [process.name() for process in machine.processes()] == []
        assert sorted(path.name for path in (machine.home / ".ray").iterdir()) == ["auth_token", "ray.log", "ray.pid"]
