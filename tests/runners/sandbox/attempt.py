"""Runs the battery in a sandbox of the kind named first and prints what it found; the host's side of the tests.

Started as a program of its own, it also shows what an ordinary user gets where the tests run as root.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
BATTERY = Path(__file__).with_name("battery.py")


def attempt(kind: str) -> dict[str, Any]:
    from runners.sandbox import BOX, Limits, View, open_sandbox
    from runners.sandbox.python import python_runtime

    os.environ["API_KEY"] = "our-own-secret"
    sandbox = open_sandbox(kind)
    runtime = python_runtime(sandbox)
    view = View(runtime.view.read_only, runtime.view.hidden, ((BATTERY, BOX / "battery.py"),))
    with (
        tempfile.TemporaryDirectory(prefix="secret-") as folder,
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        secret = Path(folder, "secret")
        secret.write_text("token")
        box = Path(folder, "box")
        box.mkdir()
        name = f"quantsweep-test-{os.getpid()}"
        abstract.bind("\0" + name)
        abstract.listen()
        known = [str(secret), str(os.getpid()), str(server.getsockname()[1]), name]
        done = sandbox.run(
            [runtime.executable, "-I", "-S", str(BOX / "battery.py"), *known],
            workdir=box,
            view=view,
            limits=Limits(wall_s=60.0, cpu_s=20.0),
        )
    if done.status != "ok":
        raise RuntimeError(done)
    found: dict[str, Any] = json.loads(done.stdout)
    return {**found, "isolation": sandbox.isolation, "uid": os.getuid(), "folder": folder}


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    print(json.dumps(attempt(sys.argv[1])))
