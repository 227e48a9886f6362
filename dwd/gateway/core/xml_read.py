"""Reading S3 documents of strangers: no DTD, no entities, no network, depth and size bounded.

Invariants: a document with a DOCTYPE is refused before anything in it is expanded; namespaces are optional and
ignored, as AWS does; a document is UTF-8 whatever it says of itself, or a DOCTYPE could hide in another encoding.
"""

from __future__ import annotations

from lxml import etree

from dwd.base.errors import InvalidArgument

DEPTH_MAX = 8
ELEMENTS_MAX = 100_000

Element = etree._Element  # noqa: SLF001  # the only name lxml has for the type


def parse_document(data: bytes, root: str) -> Element:
    """The root element, called `root`. Raises InvalidArgument s3.malformed_xml."""
    parser = etree.XMLParser(
        encoding="utf-8", resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False,
        huge_tree=False, remove_comments=True, remove_pis=True,
    )  # fmt: skip
    if b"<!" in data:
        # The only uses of "<!" are DOCTYPE, comments and CDATA: none belongs into a request.
        raise malformed("no DOCTYPE, comment or CDATA is allowed")
    try:
        tree = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError):
        raise malformed("not well-formed") from None
    if name_of(tree) != root:
        raise malformed(f"the root must be {root}")
    _check_size(tree)
    return tree


def name_of(element: Element) -> str:
    """The tag without its namespace; empty for what is not an element."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def text_of(element: Element, child: str) -> str | None:
    """The text of the first child of that name."""
    for one in element:
        if name_of(one) == child:
            return one.text or ""
    return None


def children(element: Element, name: str) -> list[Element]:
    return [one for one in element if name_of(one) == name]


def malformed(why: str) -> InvalidArgument:
    return InvalidArgument(
        "s3.malformed_xml",
        "The XML you provided was not well-formed or did not validate against our published schema",
        why=why,
    )


def _check_size(tree: Element) -> None:
    level, depth, count = [tree], 0, 0
    while level:
        depth += 1
        count += len(level)
        if depth > DEPTH_MAX or count > ELEMENTS_MAX:
            raise malformed("too deep or too long")
        level = [child for element in level for child in element]
