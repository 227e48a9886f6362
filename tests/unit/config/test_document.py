"""The committed deploy/dwd.toml is what the settings say, and is itself a valid file."""

from __future__ import annotations

import re
from pathlib import Path

from dwd.config.document import document
from dwd.config.load import load, sections_of
from dwd.config.settings import Settings

COMMITTED = Path(__file__).parents[3] / "deploy" / "dwd.toml"


def test_committed_file_is_fresh_when_settings_change() -> None:
    assert COMMITTED.read_text() == document(), "run `make docs`"


def test_committed_file_changes_nothing_when_loaded() -> None:
    assert load(COMMITTED, {}) == load(None, {})


def test_every_key_is_explained_when_documented() -> None:
    text = document()
    for section, model in sections_of(Settings).items():
        assert f"[{section}]" in text
        for key, field in model.model_fields.items():
            assert re.search(rf"^# {key} = ", text, re.MULTILINE), f"{section}.{key}"
            assert field.description, f"{section}.{key}"


def test_defaults_are_what_they_say_when_uncommented(tmp_path) -> None:
    """Every line that is commented out parses, and gives the default but for the examples of what has none."""
    path = tmp_path / "dwd.toml"
    path.write_text(re.sub(r"^# (\[\[|\w+ = )", r"\1", document(), flags=re.MULTILINE))
    loaded, default = load(path, {}), load(None, {})
    for section in ("s3", "raft", "blocks", "repair", "gc", "telemetry", "limits"):
        assert getattr(loaded, section) == getattr(default, section)
    assert (loaded.listen.grpc, loaded.listen.s3, loaded.listen.admin) == (
        default.listen.grpc,
        default.listen.s3,
        default.listen.admin,
    )
    assert loaded.node.data_dir == default.node.data_dir
