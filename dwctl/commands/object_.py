"""dwctl object: put, get, list, stat, delete, without an S3 client."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dwctl.session import ContextOption, JsonFlag, admin, as_document, output
from dwctl.tables import Column, table
from dwctl.text import when
from dwd.base.errors import Corrupt, NotFound
from dwd.base.limits import CHUNK_BYTES
from dwd.base.units import format_bytes

if TYPE_CHECKING:
    from dwctl.client import AdminClient
    from dwd.pb.admin.v1 import admin_pb2

app = typer.Typer(name="object", help="Objects: put, get, list, stat, delete.", no_args_is_help=True)
BucketArgument = Annotated[str, typer.Argument(help="The bucket.")]
KeyArgument = Annotated[str, typer.Argument(help="The object's key.")]


@app.command()
def put(
    bucket: BucketArgument,
    key: KeyArgument,
    file: Annotated[str, typer.Argument(help="The file to store; - reads standard input.")],
    content_type: Annotated[str, typer.Option(help="MIME type.")] = "application/octet-stream",
    if_absent: Annotated[bool, typer.Option("--if-absent", help="Refuse when the key exists (exit 8).")] = False,
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Store a file as an object."""
    if file != "-" and not Path(file).is_file():
        raise NotFound("dwctl.no_such_file", f"no file {file}", hint="give a regular file, or - for standard input")
    size = None if file == "-" else Path(file).stat().st_size
    sink = output(as_json)
    with admin(context) as client, sink.progress() as progress:
        task = progress.add_task(f"put {key}", total=size)

        def parts() -> Iterator[admin_pb2.PutObjectRequest]:
            head = client.pb.PutObjectRequest.Head(
                bucket=bucket, key=key, size=size, content_type=content_type, only_if_absent=if_absent
            )
            yield client.pb.PutObjectRequest(head=head)
            with sys.stdin.buffer if file == "-" else Path(file).open("rb") as source:
                while chunk := source.read(CHUNK_BYTES):
                    yield client.pb.PutObjectRequest(chunk=chunk)
                    progress.advance(task, len(chunk))

        made = client.change(client.stub.PutObject, parts(), seconds=3600)
    sink.value(as_document(made), f"stored {made.bucket}/{made.key}: {format_bytes(made.size)}, etag {made.etag}")


@app.command()
def get(
    bucket: BucketArgument,
    key: KeyArgument,
    file: Annotated[str, typer.Argument(help="Where to write it; - writes standard output.")] = "-",
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Fetch an object; an existing file is replaced only once every byte has arrived and was checked."""
    sink = output(as_json)
    with admin(context) as client:
        if file == "-":
            for chunk in _received(client, bucket, key, None):
                sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
            return
        target = Path(file)
        partial = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            with partial.open("wb") as stream, sink.progress() as progress:
                task = progress.add_task(f"get {key}", total=None)
                for chunk in _received(client, bucket, key, lambda size: progress.update(task, total=size)):
                    stream.write(chunk)
                    progress.advance(task, len(chunk))
            size = partial.stat().st_size
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    sink.value({"bucket": bucket, "key": key, "file": file, "size": size}, f"wrote {file}: {format_bytes(size)}")


def _received(client: AdminClient, bucket: str, key: str, on_size: object) -> Iterator[bytes]:
    """Chunks of the object. Raises Corrupt when length or (single-part) MD5 is not what the head said."""
    expected: admin_pb2.Object | None = None
    received, digest = 0, hashlib.md5(usedforsecurity=False)
    for part in client.stream(client.stub.GetObject, client.pb.GetObjectRequest(bucket=bucket, key=key)):
        if part.HasField("head"):
            expected = part.head
            if callable(on_size):
                on_size(part.head.size)
        else:
            received += len(part.chunk)
            digest.update(part.chunk)
            yield part.chunk
    plain = expected is not None and "-" not in expected.etag
    if expected is None or received != expected.size or (plain and digest.hexdigest() != expected.etag):
        raise Corrupt(
            "dwctl.transfer_damaged",
            f"{bucket}/{key} did not arrive whole",
            hint="try again; then `dwctl cluster status`",
        )


@app.command("list")
def list_(
    bucket: BucketArgument,
    prefix: Annotated[str, typer.Option(help="Only keys that start with this.")] = "",
    delimiter: Annotated[str, typer.Option(help="Roll keys up to the next delimiter, like folders.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 1_000,
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """List objects in key order."""
    objects: list[admin_pb2.Object] = []
    prefixes: list[str] = []
    after, truncated = "", True
    with admin(context) as client:
        while truncated and len(objects) + len(prefixes) < limit:
            request = client.pb.ListObjectsRequest(
                bucket=bucket,
                prefix=prefix,
                delimiter=delimiter,
                after=after,
                limit=min(1_000, limit - len(objects) - len(prefixes)),
            )
            page = client.ask(client.stub.ListObjects, request)
            objects.extend(page.objects)
            prefixes.extend(page.prefixes)
            truncated, after = page.truncated, page.next_after
    rows = [(format_bytes(o.size), when(o.modified_unix_ms), o.etag, o.key) for o in objects]
    rows.extend(("-", "-", "-", p) for p in prefixes)
    columns = (Column(name="size", is_number=True), Column(name="modified", rank=1), Column(name="etag", rank=2), "key")
    sink = output(as_json)
    sink.table(
        table(f"objects in {bucket}", columns, sorted(rows, key=lambda row: row[-1].encode())),
        {
            "objects": [as_document(o) for o in objects],
            "prefixes": prefixes,
            "truncated": truncated,
            "next_after": after,
        },
    )
    if truncated:
        sink.note(f"more than {limit}: raise --limit")


@app.command()
def stat(bucket: BucketArgument, key: KeyArgument, context: ContextOption = None, as_json: JsonFlag = False) -> None:
    """Show an object's facts."""
    with admin(context) as client:
        found = client.ask(client.stub.StatObject, client.pb.StatObjectRequest(bucket=bucket, key=key))
    rows = [
        ("bucket", found.bucket),
        ("key", found.key),
        ("size", f"{format_bytes(found.size)} ({found.size})"),
        ("etag", found.etag),
        ("modified", when(found.modified_unix_ms)),
        ("content type", found.content_type),
        ("checksum", found.checksum or "-"),
        *((f"meta {name}", value) for name, value in sorted(found.metadata.items())),
    ]
    output(as_json).table(table("object", ("fact", "value"), rows), as_document(found))


@app.command()
def delete(bucket: BucketArgument, key: KeyArgument, context: ContextOption = None, as_json: JsonFlag = False) -> None:
    """Delete an object; exit 3 if there was none."""
    with admin(context) as client:
        reply = client.change(client.stub.DeleteObject, client.pb.DeleteObjectRequest(bucket=bucket, key=key))
    if not reply.existed:
        raise NotFound(
            "objects.no_such_key",
            f"no object {key!r} in bucket {bucket!r}",
            hint=f"dwctl object list {bucket} shows the keys",
        )
    output(as_json).value({"deleted": {"bucket": bucket, "key": key}}, f"deleted {bucket}/{key}")
