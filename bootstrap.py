"""Set everything up on a machine that has only Python, then run the demo or the tests.

    python3 bootstrap.py demo      # the whole path on generated pictures, a few minutes
    python3 bootstrap.py test      # the tests
    python3 bootstrap.py check     # the tests, lint, types and import rules

All is installed into `.venv` beside this file; further words go to the command itself.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
HOME = ROOT / ".venv"
BIN = HOME / ("Scripts" if os.name == "nt" else "bin")
COMMANDS: dict[str, list[list[str]]] = {
    "demo": [["weakseg", "demo"]],
    "test": [["pytest", "-n", "auto"]],
    "check": [
        ["pytest", "-n", "auto"],
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
        ["lint-imports"],
    ],
}


def main(arguments: list[str]) -> int:
    """Install what is missing and run a command of `COMMANDS`; returns its exit code."""
    if sys.version_info < (3, 11):
        print(f"weakseg needs Python 3.11 or later; this is {sys.version.split()[0]}")
        return 2
    if not arguments or arguments[0] not in COMMANDS:
        print(f"usage: python3 bootstrap.py {'|'.join(COMMANDS)} [further words]")
        return 2
    name, *further = arguments
    install("" if name == "demo" else "[dev]")
    first, *others = COMMANDS[name]
    environment = dict(os.environ)
    if first[0] == "pytest":
        # One process a processor, each of one thread: threads of several would wait for each other.
        environment.setdefault("OMP_NUM_THREADS", "1")
    for program, *words in [[*first, *further], *others]:
        code = subprocess.call([str(BIN / program), *words], cwd=ROOT, env=environment)
        if code:
            return code
    return 0


def install(extra: str) -> None:
    """Make `.venv` and install the package with an extra, unless that was done before."""
    mark = HOME / f"installed{extra.strip('[]')}"
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    if mark.is_file() and mark.read_text() == wanted:
        return
    if not (BIN / "python").exists() and not (BIN / "python.exe").exists():
        print("making .venv …", flush=True)
        venv.create(HOME, with_pip=True)
    print("installing weakseg and what it needs …", flush=True)
    pip = [str(BIN / "python"), "-m", "pip", "install", "--quiet"]
    pip.append("--disable-pip-version-check")
    subprocess.check_call([*pip, "--editable", f".{extra}"], cwd=ROOT)
    mark.write_text(wanted)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
