"""What every part of a node is built with: settings, identity, clock, chance, files, the claim on the data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dwd.base.clock import Clock, Rng
from dwd.config.settings import Settings
from dwd.meta.core.control.rows import Domain
from dwd.node.disk import Disk
from dwd.node.faults import Faults
from dwd.node.paths import DataClaim, Paths, claim_data, paths_of
from dwd.node.removal import require_not_removed
from dwd.node.starts import Starts
from dwd.raft.quorum_loss.epochs import Epochs
from dwd.runtime.clock import SystemClock, SystemRng
from dwd.runtime.files import Files
from dwd.security import identity as identities
from dwd.security.identity import Identity
from dwd.security.keyring import Keyring, open_keyring


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """`on_fatal` ends the node."""

    settings: Settings
    paths: Paths
    identity: Identity
    keyring: Keyring = field(repr=False)
    clock: Clock
    rng: Rng
    files: Files
    vfs: str
    """The SQLite VFS of all databases, empty for the system's."""
    claim: DataClaim
    starts: Starts
    epochs: Epochs
    """The recovery epoch of what lies in the data directory."""
    data_is_old: bool
    """The data directory is an older copy of what this node last ran with."""
    domain: Domain
    started: float
    on_fatal: Callable[[BaseException], None]
    faults: Faults | None
    """Only in tests on development clusters."""


def surroundings_of(
    settings: Settings, disk: Disk, on_fatal: Callable[[BaseException], None], faults: Faults | None = None
) -> Surroundings:
    """Load who this node is and lock its data. Raises NotFound (not a node yet), Conflict (already running) and
    whatever is wrong with identity or data.
    """
    if faults is not None:
        disk = faults.on(disk)
    clock = SystemClock() if faults is None else faults.clock
    rng, files, paths = SystemRng(), disk.files, paths_of(settings)
    identity = identities.load(paths.identity, clock=clock)
    if faults is not None:
        faults.be(identity.node_id)
    require_not_removed(files, paths, identity)
    ring = open_keyring(identity.sealing, files.read(paths.keyring))
    claim = claim_data(files, paths, cluster=identity.cluster_id, node=identity.node_id)
    starts = Starts(paths, files, rng)
    if claim.fresh:
        starts.forget(paths.data)
    try:
        epochs = Epochs(files, paths.recovery, clock)
        epochs.require_unfenced()
    except BaseException:
        claim.release()
        raise
    node = settings.node
    return Surroundings(
        settings=settings,
        paths=paths,
        identity=identity,
        keyring=ring,
        clock=clock,
        rng=rng,
        files=files,
        vfs=disk.vfs,
        claim=claim,
        starts=starts,
        epochs=epochs,
        data_is_old=starts.is_old(paths.data),
        domain=Domain(region=node.region, zone=node.zone, rack=node.rack),
        started=clock.monotonic(),
        on_fatal=on_fatal,
        faults=faults,
    )
