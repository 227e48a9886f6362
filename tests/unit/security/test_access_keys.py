from __future__ import annotations

import re

from dwd.security.access_keys import new_access_key


def test_key_has_the_shape_clients_accept_when_made() -> None:
    key = new_access_key()
    assert re.fullmatch(r"[A-Z2-7]{20}", key.id)
    assert re.fullmatch(r"[A-Za-z0-9]{40}", key.secret)
    assert new_access_key() != key


def test_secret_stays_hidden_when_printed() -> None:
    key = new_access_key()
    assert key.secret not in repr(key)
    assert key.id in repr(key)
