"""How commands tell an error to people."""

from __future__ import annotations

from dwd.base.errors import DwError
from dwd.base.exits import report


def test_code_stands_in_the_first_line_when_the_message_has_several() -> None:
    assert report(DwError("a.b", "it broke")) == "error: it broke (a.b)\n"
    assert report(DwError("a.b", "file has 2 faults:\n  one\n  two", hint="mend it")) == (
        "error: file has 2 faults (a.b):\n  one\n  two\n  next: mend it\n"
    )
