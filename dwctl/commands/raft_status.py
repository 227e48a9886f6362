"""dwctl raft status: once, or live."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from dwctl import raft_page
from dwctl.output import print_line
from dwctl.session import STATUS_SECONDS, admin, as_document, output
from dwctl.tables import plain
from dwctl.watching import follow, show
from dwd.base.errors import DwError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from dwctl.client import AdminClient
    from dwd.pb.admin.v1 import consensus_pb2


def show_status(context: str | None, wanted: list[int], *, watch: bool, as_json: bool) -> None:
    """For people, pipes or scripts; with `watch` again and again. Raises DwError."""
    console = output(as_json).console()
    on_terminal = console.is_terminal and not as_json

    def page(found: consensus_pb2.RaftStatusReply, height: int | None) -> RenderableType:
        return raft_page.for_people(found, width=console.width, height=height, whole=bool(wanted))

    if watch:
        answers = follow(lambda: admin(context), lambda client: ask_status(client, wanted))
        if on_terminal:
            show(console, answers, page)
        print_each(answers, as_json=as_json)
        return
    with admin(context) as client:
        found = ask_status(client, wanted)
    if on_terminal:
        console.print(page(found, None))
    else:
        print_status(found, as_json=as_json)


def ask_status(client: AdminClient, groups: list[int]) -> consensus_pb2.RaftStatusReply:
    request = client.raft_pb.RaftStatusRequest(groups=groups)
    return client.ask(client.raft.RaftStatus, request, seconds=STATUS_SECONDS)


def print_each(answers: Iterator[consensus_pb2.RaftStatusReply | DwError], *, as_json: bool) -> None:
    for answer in answers:
        if isinstance(answer, DwError):
            output(as_json).error(answer)
        else:
            print_status(answer, as_json=as_json)


def print_status(found: consensus_pb2.RaftStatusReply, *, as_json: bool) -> None:
    """For scripts a document; for pipes lines, then tab-separated tables, an empty line before each."""
    if as_json:
        print_line(json.dumps(as_document(found)))
        return
    for line in (raft_page.title(found), *raft_page.reasons(found)):
        print_line(line)
    for made in raft_page.tables(found):
        print_line("")
        for line in plain(made):
            print_line(line)
