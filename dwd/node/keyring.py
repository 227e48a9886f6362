"""This node's copy of the cluster's keys follows control, where a rotation puts it, sealed to this node alone.

The log of control has the new ring before any box that needs it, so a node that was away finds both when it catches
up. Between the two of them a request may come first: the ring asks here before it says that a key is missing.
"""

from __future__ import annotations

import structlog

from dwd.base.errors import DwError
from dwd.meta.view import ControlView
from dwd.node.paths import Paths
from dwd.runtime.private_files import write_private
from dwd.security.identity import Identity
from dwd.security.keyring import Keyring, open_keyring

_log = structlog.get_logger("dwd.node")


class KeyringKeeper:
    """`refresh` when control changed; everybody who holds the ring or a view of it gets the new keys."""

    def __init__(self, *, identity: Identity, ring: Keyring, paths: Paths, view: ControlView) -> None:
        self._identity, self._ring, self._paths, self._view = identity, ring, paths, view
        self._seen = b""
        ring.when_missing(self.refresh)

    def refresh(self) -> None:
        """Take what control has for this node, unless that is older than what it holds. Written down first."""
        topology = self._view.topology_or_none()
        row = topology.node(self._identity.node_id) if topology is not None else None
        if row is None or row.sealed_keyring == self._seen:
            return
        try:
            found = open_keyring(self._identity.sealing, row.sealed_keyring)
            if found.active_version >= self._ring.active_version and not found.has_keys_of(self._ring):
                write_private(self._paths.keyring, row.sealed_keyring)
                self._ring.adopt(found)
                _log.info("the cluster's keys were rotated", version=found.active_version, versions=found.versions)
        except DwError as error:
            _log.error("this node's copy of the cluster's keys cannot be taken", error=str(error))
            return
        self._seen = row.sealed_keyring
