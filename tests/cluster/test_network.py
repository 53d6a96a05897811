"""What a network does: hosts that are down, firewalls that drop, nodes without the token, a head whose power is cut."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest

from tests.cluster.machines import Lab, lab
from tests.cluster.page import bring_together, start_of, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

SPEC = """\
name = "cut"
seeds = "1-1000"
exams = ["todo"]
[sampling]
max_tokens = 400
[engine]
context = 1024
threads = 1
[[models]]
name = "stand-in"
source = "builtin:stand-in"
quants = ["Q8_0", "Q2_K"]
"""


@pytest.fixture
def network() -> Iterator[Lab]:
    with lab() as found:
        yield found


def test_a_host_that_drops_and_one_that_is_down(network: Lab) -> None:
    here, there = network.machine("10.0.0.1"), network.machine("10.0.0.2")
    there.run(f"ip route add blackhole {here.address}/32")
    listener = there.popen("exec python -c 'import socket, time; s = socket.create_server((\"\", 6379)); input()'")
    for address, words in (("10.0.0.2", "no answer within"), ("10.0.0.9", "not reachable: No route to host")):
        begun = time.monotonic()
        said = here.run(f"quantsweep nodes --address {address}:6379", codes=(2,))
        assert f"error: {address}:6379: {words}" in said
        assert len(said.splitlines()) == 2, said
        assert time.monotonic() - begun < 30
    listener.kill()
    listener.communicate()


@pytest.mark.fault
def test_a_cluster_keeps_strangers_out_and_a_sweep_outlives_its_head_in_order(network: Lab) -> None:
    head, node, stranger = (network.machine(f"10.0.0.{number}") for number in (1, 2, 3))
    bring_together(head, [node])

    # Without the token: neither a look, nor a node.
    said = stranger.run("quantsweep nodes --address 10.0.0.1:6379", codes=(2,))
    assert "this cluster asks for a token, and there is none here" in said
    stranger.run("mkdir -p -m 700 ~/.ray")
    stranger.run(start_of(stranger).replace("RAY_AUTH_MODE=token", "RAY_AUTH_MODE=disabled"))
    until(lambda: stranger.processes("raylet") or not stranger.processes(), "a try of the stranger to join")
    until(lambda: not stranger.processes(), "its end")
    said = node.run("quantsweep nodes --address auto")
    assert "m1" in said
    assert "m2" in said
    assert "m3" not in said

    # The head's power is cut in the middle of a sweep that was started on the other machine.
    (node.home / "cut.toml").write_text(SPEC)
    running = node.popen("quantsweep run cut.toml --out run --address auto")
    journal = node.home / "run" / "journal.jsonl"
    until(lambda: journal.exists() and journal.read_text().count('"committed"') > 3, "some rows")
    head.end()
    begun = time.monotonic()
    _, err = running.communicate(timeout=240)
    assert running.returncode == 2, err
    assert time.monotonic() - begun < 180
    assert "auto: the cluster's head is gone: it does not answer for" in err
    assert re.search(r"of 2000 jobs are done and kept\. To go on: .* run cut\.toml", err)
    assert "(raylet)" not in err
    engines = [each for each in node.processes() if "embedded_child" in " ".join(each.cmdline())]
    assert engines == [], "agents were told, although the head was gone"
