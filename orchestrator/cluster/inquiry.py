"""Decides, before Ray is started in this process, whether a head may be used: it answers, is not open, and is ours.

An open head lets everybody who reaches its port run programs as its user (CVE-2023-48022). That is refused on loopback
too: every user and every container with the host's network reaches it there, and a token costs one command.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from orchestrator.cluster.address import PAGE, Head, knock
from orchestrator.cluster.environment import token_source
from orchestrator.errors import ClusterError

ANSWER_S = 25.0
"""For the whole question: a process, `import ray` and four calls; it takes 1 to 3 s where all is well."""
_PATIENCE = {"RAY_py_gcs_connect_timeout_s": "4", "RAY_gcs_rpc_server_connect_timeout_s": "4"}


def examine(head: Head) -> str:
    """The id of the cluster at `head`, which may be used.

    Raises:
        ClusterError: it may not, or does not answer within half a minute; the sentence says what to do.
    """
    knock(head)
    token = token_source()
    answer = _answer_of(head)
    _check_versions(head, answer)
    if answer.get("open"):
        raise ClusterError(
            f"{head}: refused: this cluster asks for no token, so everybody who reaches it can run programs on it",
            hint=f"Start its nodes again with RAY_AUTH_MODE=token and one token for all of them. {PAGE}",
        )
    if answer.get("refusal") == "token":
        if token is None:
            raise ClusterError(
                f"{head}: this cluster asks for a token, and there is none here",
                hint="Copy the head's ~/.ray/auth_token to this machine and chmod 600 it, or name the file in "
                "RAY_AUTH_TOKEN_PATH.",
            )
        raise ClusterError(
            f"{head}: the token {token} is not this cluster's",
            hint="Copy the token file that its head was started with.",
        )
    if not answer["here"]:
        raise ClusterError(
            f"{head}: this machine is no node of that cluster",
            hint=f"Run on one of its machines, or make this one a node: ray start --address={head.address}. {PAGE}",
        )
    return str(answer["cluster_id"])


def _check_versions(head: Head, answer: dict[str, Any]) -> None:
    for what, program in (("ray", "Ray"), ("python", "Python")):
        theirs, ours = answer.get(what), answer.get(f"our_{what}")
        if theirs and theirs != ours:
            raise ClusterError(
                f"{head}: the cluster runs {program} {theirs}, this is {program} {ours}",
                hint="Every machine needs the same Ray and the same Python, to the last number.",
            )


def _answer_of(head: Head) -> dict[str, Any]:
    question = Path(__file__).with_name("question.py")
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= _PATIENCE | {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    try:
        done = subprocess.run(
            [sys.executable, "-P", str(question), head.address],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            env=environment,
            timeout=ANSWER_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _silence(head) from None
    try:
        answer = json.loads(done.stdout.decode(errors="replace").rstrip().rpartition("\n")[2])
    except (ValueError, RecursionError):
        raise _silence(head) from None
    return dict(answer)


def _silence(head: Head) -> ClusterError:
    return ClusterError(
        f"{head}: the port is open, but no Ray head answered",
        hint=f"Is it the head's own port, 6379 unless chosen otherwise, and is the head well? {PAGE}",
    )
