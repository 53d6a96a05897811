"""Asked in a process of its own: is this Ray head open, whose is it, and which of its nodes run on this machine?

Ray's client prints lines of its own, waits for minutes and ends its process when it is displeased. Here all that hits
is this process, which its parent (`inquiry.py`) reads and ends. `python -P question.py HOST:PORT` prints one line of
JSON. It starts without authentication, so that an open head is recognised before a token is sent to it.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

CALL_S = 5.0


def ask(address: str) -> dict[str, Any]:
    """What the head at `address` says; `refusal` is `token` when it does not take ours."""
    from ray import _raylet
    from ray.exceptions import AuthenticationError

    raylet: Any = _raylet  # its C++ classes have no types

    is_open = True
    try:
        client = raylet.GcsClient(address=address, cluster_id=None)
    except AuthenticationError:
        is_open = False
        os.environ["RAY_AUTH_MODE"] = "token"
        raylet.Config.initialize("")
        raylet.AuthenticationTokenLoader.instance().reset_cache()
        if not raylet.AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True):
            return {"refusal": "token"}
        try:
            client = raylet.GcsClient(address=address, cluster_id=None)
        except AuthenticationError:
            return {"refusal": "token"}
    return {"open": is_open, "cluster_id": client.cluster_id.hex(), **_versions(client), "here": _here(client)}


def _versions(client: Any) -> dict[str, Any]:
    import ray

    known = client.internal_kv_get(b"CLUSTER_METADATA", b"cluster", timeout=CALL_S)
    cluster = json.loads(known) if known else {}
    return {
        "ray": cluster.get("ray_version"),
        "python": cluster.get("python_version"),
        "our_ray": ray.__version__,
        "our_python": ".".join(map(str, sys.version_info[:3])),
    }


def _here(client: Any) -> bool:
    from ray._private import services

    raylets_here: set[str] = services.find_node_ids()  # type: ignore[no-untyped-call]  # Ray's own code
    alive = {node_id.hex() for node_id, node in client.get_all_node_info(timeout=CALL_S).items() if node.state == 0}
    return bool(alive & raylets_here)


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(ask(sys.argv[1])) + "\n")
    sys.stdout.flush()
    os._exit(0)  # Ray's threads have nothing to say to us any more
