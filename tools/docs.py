"""Write what is documented from the code: the settings and the commands. `--check` fails when it is stale."""

from __future__ import annotations

import sys
from pathlib import Path

from dwd.config.document import document
from tools.commands import reference

ROOT = Path(__file__).resolve().parent.parent


def documents() -> dict[Path, str]:
    """Every generated document with its text."""
    return {ROOT / "deploy" / "dwd.toml": document(), ROOT / "docs" / "commands.md": reference()}


def main() -> None:
    stale = [path for path, text in documents().items() if not path.is_file() or path.read_text() != text]
    if "--check" in sys.argv[1:]:
        if stale:
            sys.exit("stale, run `make docs`: " + ", ".join(str(path.relative_to(ROOT)) for path in stale))
        return
    for path in stale:
        path.write_text(documents()[path])
        print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
