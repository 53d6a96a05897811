"""Why a machine gives no sandbox, and the one command that mends it."""

from __future__ import annotations

import shutil
from pathlib import Path

_MANAGERS = {
    "apt-get": "sudo apt-get install -y {}",
    "dnf": "sudo dnf install -y {}",
    "pacman": "sudo pacman -S --noconfirm {}",
    "zypper": "sudo zypper install -y {}",
    "apk": "sudo apk add {}",
}
# A setting that forbids user namespaces to an ordinary user: its file, the forbidding value, the allowing one.
_SETTINGS = (
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),  # Ubuntu 23.10 and later
    ("kernel/unprivileged_userns_clone", "0", "1"),  # Debian 10 and earlier, some hardened kernels
    ("user/max_user_namespaces", "0", "15000"),  # RHEL 7 and hardened systems
)
_CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")


def install_command(package: str) -> str:
    """How this machine installs `package`."""
    for manager, command in _MANAGERS.items():
        if shutil.which(manager):
            return command.format(package)
    return f"install the package {package} with your system's package manager"


def namespace_command(proc_sys: Path = Path("/proc/sys"), marks: tuple[str, ...] = _CONTAINER_MARKS) -> str:
    """What to do where the kernel refuses user namespaces."""
    for name, forbidding, allowing in _SETTINGS:
        try:
            value = (proc_sys / name).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if value == forbidding:
            return f"sudo sysctl -w {name.replace('/', '.')}={allowing}"
    if any(Path(mark).exists() for mark in marks):
        return (
            "this is a container whose seccomp profile forbids namespaces: start it with "
            "`--security-opt seccomp=unconfined --security-opt systempaths=unconfined`"
        )
    return install_command("bubblewrap")
