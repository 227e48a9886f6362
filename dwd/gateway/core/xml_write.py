"""Writing S3 documents.

A listing has thousands of small elements, so they are joined strings rather than a tree; only `escape` ever
puts text into a document.
Hazard: S3 keys may hold control characters, which XML 1.0 cannot carry even as references. AWS sends the reference
anyway, and so do we; clients that list such keys ask for encoding-type=url.
"""

from __future__ import annotations

import re

DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"

_SPECIAL = re.compile(r"[&<>\"\x00-\x1f\x7f\ufffe\uffff]")
_NAMED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}


def escape(text: str) -> str:
    if _SPECIAL.search(text) is None:
        return text
    return _SPECIAL.sub(_reference, text)


def element(name: str, value: str | int | bool) -> str:
    """One element of text; booleans as XML Schema writes them."""
    if isinstance(value, bool):
        value = "true" if value else "false"
    return f"<{name}>{escape(str(value))}</{name}>"


def document(root: str, *content: str, namespace: bool = True) -> bytes:
    """A whole document. `content` is XML already."""
    head = f'<{root} xmlns="{NAMESPACE}">' if namespace else f"<{root}>"
    return f"{DECLARATION}{head}{''.join(content)}</{root}>".encode()


def _reference(match: re.Match[str]) -> str:
    character = match.group()
    return _NAMED.get(character) or f"&#x{ord(character):x};"
