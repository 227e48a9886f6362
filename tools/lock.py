"""Write `requirements.lock`: every dependency of pyproject.toml with its development group, pinned, with hashes.

Run it through `make lock`, which provides pip-tools. The file names no registry and no path: pip takes the packages
from wherever it is configured to, and the hashes hold whichever that is. `--runtime` prints the part that the daemon
needs to run, for images; it asks the installed packages what they need, so the lock must be installed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

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


def runtime(pyproject: str, lock: str, needs: Callable[[str], list[str]]) -> str:
    """The blocks of `lock` for the project's dependencies and whatever those need, by `needs`."""
    blocks = {canonicalize_name(block.split("==")[0]): block for block in re.split(r"(?m)^(?=[a-zA-Z])", lock)[1:]}
    waiting = [Requirement(line) for line in tomllib.loads(pyproject)["project"]["dependencies"]]
    reached: set[tuple[NormalizedName, str]] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in sorted({"", *requirement.extras}):
            if (name, extra) in reached:
                continue
            reached.add((name, extra))
            found = [Requirement(line) for line in needs(name)]
            waiting += [one for one in found if one.marker is None or one.marker.evaluate({"extra": extra})]
    return "".join(blocks[name] for name in sorted({name for name, _ in reached}))


def main() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text()
    if "--runtime" in sys.argv[1:]:
        print(runtime(pyproject, LOCK.read_text(), lambda name: metadata.requires(name) or []), end="")
        return
    wanted = requirements(pyproject)
    LOCK.write_text(HEADER + compiled(wanted, upgrade="--upgrade" in sys.argv[1:]))


if __name__ == "__main__":
    main()
