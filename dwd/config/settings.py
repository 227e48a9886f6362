"""All settings of one daemon, and what must hold between them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from dwd.base.units import MIB, format_bytes
from dwd.config.faults import Fault
from dwd.config.sections import (
    S3,
    Blocks,
    Device,
    Gc,
    Limits,
    Listen,
    Node,
    Raft,
    Repair,
    Section,
    Telemetry,
    Tls,
)
from dwd.config.values import Address

DEVICES_MAX = 64


class Settings(Section):
    """Field names are the names of the sections in dwd.toml."""

    node: Node = Field(default_factory=Node)
    listen: Listen = Field(default_factory=Listen)
    tls: Tls = Field(default_factory=Tls)
    device: tuple[Device, ...] = Field(default=(), max_length=DEVICES_MAX)
    s3: S3 = Field(default_factory=S3)
    raft: Raft = Field(default_factory=Raft)
    blocks: Blocks = Field(default_factory=Blocks)
    repair: Repair = Field(default_factory=Repair)
    gc: Gc = Field(default_factory=Gc)
    telemetry: Telemetry = Field(default_factory=Telemetry)
    limits: Limits = Field(default_factory=Limits)

    @property
    def devices(self) -> tuple[Device, ...]:
        """The devices to use: those of the file, or the one inside data_dir."""
        return self.device or (Device(path=self.node.data_dir / "devices" / "d0"),)

    @property
    def advertise(self) -> Address:
        """What other nodes are told to call (its port is 0 where the listener's is: then the bound one counts)."""
        return self.listen.advertise or self.listen.grpc


def relations(settings: Settings) -> Iterator[tuple[Fault, tuple[str, ...]]]:
    """What does not fit together, each with the paths of all settings it is about."""
    yield from _addresses(settings)
    yield from _directories(settings)
    yield from _certificates(settings)
    yield from _sizes(settings)


def _addresses(settings: Settings) -> Iterator[tuple[Fault, tuple[str, ...]]]:
    listen = settings.listen
    if listen.grpc.is_wildcard and listen.advertise is None:
        yield _fault(
            ("listen.advertise", "listen.grpc"),
            f"is needed because listen.grpc is the wildcard {listen.grpc}",
            hint='say where other nodes reach this one, like "10.0.0.5:7400"',
        )
    if listen.advertise is not None and listen.advertise.is_wildcard:
        yield _fault(("listen.advertise",), f"{listen.advertise} is a wildcard: nobody can call it")
    if listen.advertise is not None and listen.advertise.port == 0 and listen.grpc.port != 0:
        yield _fault(("listen.advertise",), "must name a port")
    taken: dict[int, list[tuple[str, Address]]] = {}
    for name in ("grpc", "s3", "admin"):
        address: Address = getattr(listen, name)
        for other, theirs in taken.get(address.port, []):
            if address.port and (address.host == theirs.host or address.is_wildcard or theirs.is_wildcard):
                yield _fault((f"listen.{name}", f"listen.{other}"), f"{address} is taken by listen.{other} already")
        taken.setdefault(address.port, []).append((name, address))


def _directories(settings: Settings) -> Iterator[tuple[Fault, tuple[str, ...]]]:
    node = settings.node
    for name in ("data_dir", "identity_dir"):
        path: Path = getattr(node, name)
        if not path.is_absolute():
            yield _fault((f"node.{name}",), f"{path} must be an absolute path")
    if _inside(node.identity_dir, node.data_dir):
        yield _fault(
            ("node.identity_dir", "node.data_dir"),
            f"{node.identity_dir} lies in data_dir: wiping the data would lose the node's identity",
        )
    seen: dict[Path, int] = {}
    for index, device in enumerate(settings.device):
        place = f"device[{index}].path"
        if not device.path.is_absolute():
            yield _fault((place,), f"{device.path} must be an absolute path")
        if _inside(device.path, node.identity_dir) or device.path == node.data_dir:
            yield _fault((place, "node.data_dir"), f"{device.path} must be a directory of its own")
        for other, number in seen.items():
            if _inside(device.path, other) or _inside(other, device.path):
                yield _fault(
                    (place, f"device[{number}].path"),
                    f"{device.path} and device[{number}] at {other} are not distinct",
                    hint="every device is its own directory, best on its own disk",
                )
        seen.setdefault(device.path, index)
    if settings.device and not any(device.weight > 0 for device in settings.device):
        yield _fault(("device[0].weight",), "at least one device must have a weight above 0")


def _certificates(settings: Settings) -> Iterator[tuple[Fault, tuple[str, ...]]]:
    for listener in ("s3", "admin"):
        names = (f"{listener}_certificate", f"{listener}_key")
        given = [getattr(settings.tls, name) is not None for name in names]
        if given[0] != given[1]:
            missing, present = (names[1], names[0]) if given[0] else names
            yield _fault((f"tls.{missing}", f"tls.{present}"), f"is missing beside {present}: they come in pairs")


def _sizes(settings: Settings) -> Iterator[tuple[Fault, tuple[str, ...]]]:
    raft, limits = settings.raft, settings.limits
    if raft.election_ticks < 3 * raft.heartbeat_ticks:
        yield _fault(
            ("raft.election_ticks", "raft.heartbeat_ticks"),
            f"{raft.election_ticks} must be at least three times heartbeat_ticks ({raft.heartbeat_ticks})",
            hint="one lost heartbeat must not start an election",
        )
    if raft.trailing_entries >= raft.snapshot_entries:
        yield _fault(
            ("raft.trailing_entries", "raft.snapshot_entries"),
            f"{raft.trailing_entries} must be less than snapshot_entries ({raft.snapshot_entries})",
        )
    if settings.blocks.volume_bytes % MIB:
        yield _fault(
            ("blocks.volume_bytes",), f"{format_bytes(settings.blocks.volume_bytes)} must be a whole number of MiB"
        )
    if limits.calls_per_peer_max > limits.calls_max:
        yield _fault(
            ("limits.calls_per_peer_max", "limits.calls_max"),
            f"{limits.calls_per_peer_max} must not exceed calls_max ({limits.calls_max})",
        )


def _inside(path: Path, other: Path) -> bool:
    return path == other or other in path.parents


def _fault(paths: tuple[str, ...], message: str, *, hint: str = "") -> tuple[Fault, tuple[str, ...]]:
    return Fault(path=paths[0], message=message, hint=hint), paths
