"""Write `requirements.lock`: every dependency of pyproject.toml with its development group, pinned, with hashes.

Run it through `make lock`, which provides pip-tools. The file names no registry and no path: pip takes the packages
from wherever it is configured to, and the hashes hold whichever that is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
HEADER = "# Written by `make lock` from pyproject.toml; do not edit.\n"


def requirements(pyproject: str) -> list[str]:
    """What the project needs to build, to run and to be developed, in a stable order."""
    tables = tomllib.loads(pyproject)
    groups = (
        tables["build-system"]["requires"],
        tables["project"]["dependencies"],
        tables["dependency-groups"]["dev"],
    )
    return sorted({requirement for group in groups for requirement in group})


def compiled(wanted: list[str], *, upgrade: bool) -> str:
    """pip-compile's answer, without the annotations that would name the scratch input."""
    command = [
        *(sys.executable, "-m", "piptools", "compile", "-", "--output-file", str(LOCK), "--dry-run"),
        *("--generate-hashes", "--allow-unsafe", "--strip-extras", "--no-header", "--no-annotate", "--quiet"),
        *("--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host", "--no-emit-options"),
        *(["--upgrade"] if upgrade else []),
    ]
    done = subprocess.run(
        command, input="\n".join(wanted), capture_output=True, text=True, check=False, cwd=ROOT, env=dict(os.environ)
    )
    if done.returncode != 0:
        sys.exit(done.stderr)
    return done.stdout + done.stderr


def main() -> None:
    wanted = requirements((ROOT / "pyproject.toml").read_text())
    LOCK.write_text(HEADER + compiled(wanted, upgrade="--upgrade" in sys.argv[1:]))


if __name__ == "__main__":
    main()
