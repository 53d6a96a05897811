"""docs/machines.md as a test uses it: its commands, and machines that are brought together by them."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from tests.cluster.machines import ROOT, Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PAGE = (ROOT / "docs" / "machines.md").read_text()
HEAD, NODES = "10.0.0.1", ("10.0.0.2", "10.0.0.3")


def blocks(where: str) -> list[str]:
    """The page's commands for `where`, in order, without the indentation of a list."""
    found = re.findall(rf"^( *)```sh {where}\n(.*?)^ *```$", PAGE, re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


def until(condition: Callable[[], object], what: str, seconds: float = 120) -> None:
    """Waits for something that must happen."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.2)


def start(machine: Machine, script: str) -> None:
    """Starts the node of a machine, and waits until its log says so."""
    machine.run(script)
    log = machine.home / ".ray" / "ray.log"
    until(lambda: "Ray runtime started" in log.read_text(), "the start of a node")


def bring_together(head: Machine, nodes: Sequence[Machine]) -> None:
    """As the page says: a token, and the start of each."""
    make_token, start_head = blocks("head")
    token = head.run(make_token).strip()
    assert re.fullmatch("[0-9a-f]{64}", token)
    (copy_token,) = blocks("node-token")
    for node in nodes:
        node.run(copy_token, told=token)
    start(head, start_head)
    for node in nodes:
        start(node, start_of(node))


def start_of(node: Machine) -> str:
    """The page's command for a node, with its own address."""
    (start_node,) = blocks("node")
    assert NODES[0] in start_node
    return start_node.replace(NODES[0], node.address)
