"""What only the machine can tell about settings: directories, ports, certificates, the clock.

For `dwd check-config`, and for the daemon before it starts. Changes nothing; blocks for a moment.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from dwd.base.clock import Clock
from dwd.base.errors import DwError
from dwd.config.faults import Fault
from dwd.config.settings import Settings
from dwd.config.values import Address
from dwd.security import identity
from dwd.security.peers import check_validity, load_certificate

EARLIEST = datetime(2025, 1, 1, tzinfo=UTC)
LATEST = datetime(2100, 1, 1, tzinfo=UTC)


def check(settings: Settings, *, clock: Clock, ports: bool = True) -> list[Fault]:
    """All faults. `ports=False` while the daemon runs and holds its own."""
    return [
        *_clock(clock),
        *_directories(settings),
        *_identity(settings, clock),
        *_certificates(settings, clock),
        *(_listeners(settings) if ports else ()),
    ]


def _clock(clock: Clock) -> Iterator[Fault]:
    now = datetime.fromtimestamp(clock.unix_ms() / 1000, UTC)
    if not EARLIEST <= now < LATEST:
        yield Fault(path="", message=f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC", hint="set it, run NTP")


def _directories(settings: Settings) -> Iterator[Fault]:
    yield from _creatable("node.data_dir", settings.node.data_dir)
    yield from _creatable("node.identity_dir", settings.node.identity_dir)
    for index, device in enumerate(settings.device):
        place = f"device[{index}].path"
        if not device.path.is_dir():
            yield Fault(
                path=place,
                message=f"{device.path} is not there",
                hint="mount the disk, or make the directory: dwd makes none where a disk may be missing",
            )
        elif not os.access(device.path, os.R_OK | os.W_OK | os.X_OK):
            yield Fault(path=place, message=f"{device.path} is not writable by this user")


def _creatable(place: str, path: Path) -> Iterator[Fault]:
    """The directory, or where it would be made, must be writable."""
    existing = path
    try:
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
    except OSError as error:
        yield Fault(path=place, message=f"{path} cannot be reached: {error.strerror}")
        return
    if not existing.is_dir():
        yield Fault(path=place, message=f"{existing} is not a directory")
    elif not os.access(existing, os.R_OK | os.W_OK | os.X_OK):
        what = f"{path} is not writable" if existing == path else f"{path} cannot be made in {existing}"
        yield Fault(path=place, message=f"{what} by this user")


def _identity(settings: Settings, clock: Clock) -> Iterator[Fault]:
    """A node without an identity is no fault of its settings; a broken or expired one is."""
    directory = settings.node.identity_dir
    try:
        if identity.exists(directory):
            identity.load(directory, clock=clock)
    except DwError as error:
        yield Fault(path="node.identity_dir", message=error.message, hint=error.hint)
    except OSError as error:
        yield Fault(path="node.identity_dir", message=f"{directory} cannot be read: {error.strerror}")


def _certificates(settings: Settings, clock: Clock) -> Iterator[Fault]:
    tls = settings.tls
    for listener, certificate, key in (
        ("s3", tls.s3_certificate, tls.s3_key),
        ("admin", tls.admin_certificate, tls.admin_key),
    ):
        if certificate is None or key is None:
            continue
        unreadable = [
            Fault(path=f"tls.{listener}_{name}", message=f"{path} cannot be read: {reason}")
            for name, path in (("certificate", certificate), ("key", key))
            if (reason := _unreadable(path)) is not None
        ]
        yield from unreadable or _pair(listener, certificate, key, clock)


def _pair(listener: str, certificate: Path, key: Path, clock: Clock) -> Iterator[Fault]:
    try:
        check_validity(load_certificate(certificate.read_bytes()), clock, what=str(certificate))
    except DwError as error:
        yield Fault(path=f"tls.{listener}_certificate", message=error.message, hint=error.hint)
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, ValueError, OSError) as error:
        reason = error.reason if isinstance(error, ssl.SSLError) else str(error)
        yield Fault(path=f"tls.{listener}_key", message=f"{key} does not belong to {certificate}: {reason}")
    if key.stat().st_mode & 0o007:
        yield Fault(path=f"tls.{listener}_key", message=f"{key} can be read by everybody", hint=f"chmod 640 {key}")


def _no_password() -> str:
    raise ValueError("the key is encrypted, and there is nobody to ask for its password")


def _unreadable(path: Path) -> str | None:
    try:
        with path.open("rb"):
            return None
    except OSError as error:
        return error.strerror or "input/output error"


def _listeners(settings: Settings) -> Iterator[Fault]:
    for name in ("grpc", "s3", "admin"):
        address: Address = getattr(settings.listen, name)
        reason = _cannot_bind(address)
        if reason is not None:
            yield Fault(path=f"listen.{name}", message=f"cannot listen on {address}: {reason}", hint="see `ss -ltnp`")


def _cannot_bind(address: Address) -> str | None:
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(target)
    except OSError as error:
        return error.strerror or str(error)
    return None
