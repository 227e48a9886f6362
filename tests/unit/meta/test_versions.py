"""A group's active version: raised by a command of its log, the tables with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dwd.base.errors import Conflict, DwError, InvalidArgument, InvariantViolation, NotFound, VersionRefused
from dwd.base.ids import CONTROL_GROUP, GroupId, NodeId
from dwd.meta.core.apply import Checkpoint, Command, SetVersion
from dwd.meta.core.control.commands import CreateUser
from dwd.meta.core.tx import Tx
from dwd.meta.core.versions import KNOWN, NEWEST, OLDEST, Versions
from dwd.raft.core.types import Entry
from tests.twins.meta_group import SHARD, Group, content_hash
from tests.twins.meta_nodes import running, soon, until
from tests.unit.meta.test_shard_objects import put


def widen(tx: Tx) -> None:
    """Another column on rows that exist, another table, and rows changed: what upgrades do."""
    tx.run("ALTER TABLE sessions ADD COLUMN remark TEXT NOT NULL DEFAULT 'none'")
    tx.run("CREATE TABLE novelties (name TEXT PRIMARY KEY) STRICT")
    tx.run("INSERT INTO novelties VALUES ('first')")
    tx.run("ALTER TABLE sessions DROP COLUMN remark")
    tx.run("ALTER TABLE novelties ADD COLUMN length INTEGER NOT NULL DEFAULT 5")


TWO = Versions(newest=2, upgrades={2: widen})


@pytest.fixture(params=[SHARD, CONTROL_GROUP])
def group(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Group]:
    made = Group(tmp_path / "two", request.param, versions=TWO)
    yield made
    made.close()


def sound(group: Group) -> bool:
    """Whether the sums kept are those of the rows."""
    while not (step := group.machine.scan(1_000)).finished:
        continue
    return step.found is None


def stored(group: Group) -> int:
    return int(group.sql("SELECT version FROM position")[0][0])


def test_tables_and_version_change_together_when_the_version_is_raised(group: Group) -> None:
    assert group.machine.version() == stored(group) == OLDEST
    group.send(SetVersion(version=2))
    assert group.machine.version() == stored(group) == 2
    assert group.sql("SELECT * FROM novelties") == [("first", 5)]
    group.send(Checkpoint(definition=1))
    assert sound(group)


@pytest.mark.parametrize(
    ("wanted", "kind"), [(0, Conflict), (1, Conflict), (-1, Conflict), (3, InvalidArgument), (1 << 40, InvalidArgument)]
)
def test_version_is_refused_and_nothing_changes_when_it_is_not_the_next(
    group: Group, wanted: int, kind: type[DwError]
) -> None:
    assert type(group.outcome(SetVersion(version=wanted))) is kind
    assert group.machine.version() == stored(group) == 1
    assert type(group.outcome(SetVersion(version=2))) is not kind, "the group goes on"


def test_raise_takes_effect_once_when_it_is_sent_twice(group: Group) -> None:
    group.send(SetVersion(version=2))
    again = group.outcome(SetVersion(version=2))
    assert isinstance(again, Conflict)
    assert again.code == "meta.version_active"


def test_group_stops_unchanged_when_a_version_unknown_to_the_binary_becomes_active(tmp_path: Path) -> None:
    group = Group(tmp_path / "g")
    before = group.machine.position()
    with pytest.raises(VersionRefused) as caught:
        group.send(SetVersion(version=NEWEST + 1))
    assert caught.value.code == "meta.version_newer"
    assert "upgrade" in caught.value.hint
    assert group.machine.position() == before
    assert group.machine.version() == NEWEST
    group.close()


def test_command_is_refused_as_an_outcome_when_its_version_is_above_the_active_one(group: Group) -> None:
    early = group.outcome(Checkpoint(definition=1), version=2)
    assert isinstance(early, Conflict)
    assert early.code == "meta.command_version"
    group.send(SetVersion(version=2))
    for version in (1, 2):
        assert not isinstance(group.outcome(Checkpoint(definition=1), version=version), DwError)
    assert isinstance(group.outcome(Checkpoint(definition=1), version=0), Conflict)


def entries(group: Group, *commands: Command) -> list[Entry]:
    return [group.entry(c, after=n, sequence=n + 1, lowest=1, version=1) for n, c in enumerate(commands)]


COMMANDS: dict[GroupId, tuple[Command, ...]] = {
    SHARD: (put("a"), SetVersion(version=2), put("b"), Checkpoint(definition=1), put("a")),
    CONTROL_GROUP: (
        CreateUser(name="a"), SetVersion(version=2), CreateUser(name="b"),
        Checkpoint(definition=1), SetVersion(version=1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(COMMANDS))
@pytest.mark.parametrize("cut", range(1, 6))
def test_databases_are_equal_when_the_raise_stands_elsewhere_in_its_batch(
    tmp_path: Path, kind: GroupId, cut: int
) -> None:
    one, other = (Group(tmp_path / name, kind, versions=TWO) for name in ("one", "other"))
    log = entries(one, *COMMANDS[kind])
    one.machine.apply(log)
    other.machine.apply(log[:cut])
    if log[cut:]:
        other.machine.apply(log[cut:])
    assert content_hash(one.machine.live.path) == content_hash(other.machine.live.path)
    assert one.machine.state_hash() == other.machine.state_hash() is not None
    assert sound(one)
    assert sound(other)
    one.close()
    other.close()


def test_version_and_tables_are_as_before_when_the_batch_fails(group: Group) -> None:
    log = entries(group, SetVersion(version=2), Checkpoint(definition=1))
    wrong = put("k") if group.group == CONTROL_GROUP else CreateUser(name="u")
    with pytest.raises(InvariantViolation):
        group.machine.apply([*log, group.entry(wrong, after=2, sequence=3, lowest=1, version=1)])
    assert group.machine.version() == stored(group) == 1
    assert not group.sql("SELECT 1 FROM sqlite_schema WHERE name = 'novelties'")
    group.machine.apply(log)
    assert group.machine.version() == stored(group) == 2
    assert sound(group)


def test_group_stays_as_it_was_when_its_upgrade_fails(tmp_path: Path) -> None:
    def fails(tx: Tx) -> None:
        tx.run("CREATE TABLE half (name TEXT PRIMARY KEY) STRICT")
        raise NotFound("meta.test", "what the upgrade needs is not there")

    group = Group(tmp_path / "g", versions=Versions(newest=2, upgrades={2: fails}))
    with pytest.raises(InvariantViolation):
        group.send(SetVersion(version=2))
    assert not group.sql("SELECT 1 FROM sqlite_schema WHERE name = 'half'")
    assert group.machine.version() == 1
    group.close()


def test_version_is_kept_when_the_database_rests_or_is_opened_again(tmp_path: Path) -> None:
    group = Group(tmp_path / "g", versions=TWO)
    group.send(SetVersion(version=2))
    group.machine.rest()
    assert group.machine.version() == 2
    assert isinstance(group.outcome(SetVersion(version=2)), Conflict)
    group.close()
    again = Group(tmp_path / "g", versions=TWO)
    assert again.machine.version() == 2
    assert sound(again)
    again.close()
    with pytest.raises(VersionRefused):
        Group(tmp_path / "g")
    three = Versions(oldest=3, newest=3, upgrades={})
    with pytest.raises(VersionRefused) as caught:
        Group(tmp_path / "g", versions=three)
    assert caught.value.code == "meta.version_older"


def test_snapshot_carries_the_version(group: Group, tmp_path: Path) -> None:
    group.send(SetVersion(version=2))
    copy = tmp_path / "copy.db"
    meta = group.machine.copy_snapshot(copy)
    other = Group(tmp_path / "other", group.group, versions=TWO)
    assert other.machine.version() == 1
    other.machine.install_snapshot(copy, meta)
    assert other.machine.version() == 2
    other.sequence = group.sequence
    assert isinstance(other.outcome(SetVersion(version=2)), Conflict)
    other.close()


def test_new_groups_are_equal_when_binaries_of_different_age_create_them(tmp_path: Path) -> None:
    old, new = Group(tmp_path / "old"), Group(tmp_path / "new", versions=TWO)
    assert old.machine.version() == new.machine.version() == OLDEST
    assert content_hash(old.machine.live.path) == content_hash(new.machine.live.path)
    old.close()
    new.close()


@pytest.mark.parametrize(
    ("oldest", "newest", "upgrades"), [(1, 2, {}), (1, 1, {2: widen}), (2, 1, {}), (0, 0, {}), (1, 3, {3: widen})]
)
def test_versions_are_not_taken_when_an_upgrade_is_missing_or_too_many(
    oldest: int, newest: int, upgrades: dict[int, object]
) -> None:
    with pytest.raises(InvariantViolation):
        Versions(oldest=oldest, newest=newest, upgrades=upgrades)  # type: ignore[arg-type]


def test_own_versions_are_complete() -> None:
    assert (KNOWN.oldest, KNOWN.newest) == (OLDEST, NEWEST)


async def test_group_stops_on_the_node_that_does_not_know_the_version_and_goes_on_elsewhere(tmp_path: Path) -> None:
    async with running(tmp_path, 3, versions={1: TWO, 2: TWO}) as nodes:
        hosts = {number: nodes[NodeId(number)].host for number in (1, 2, 3)}
        await until(lambda: any(host.leads(SHARD) for host in hosts.values()))
        if hosts[3].leads(SHARD):
            await hosts[3].transfer(SHARD, NodeId(1), deadline=soon())
        client = nodes[NodeId(1)].client
        await client.set_version(SHARD, 2, deadline=soon())
        await until(lambda: hosts[3].status(SHARD).failed is not None)
        failed = hosts[3].status(SHARD).failed
        assert isinstance(failed, VersionRefused)
        assert "upgrade" in failed.hint
        assert hosts[3].status(CONTROL_GROUP).failed is None
        await client.keyed(put("after"), deadline=soon())
        await until(lambda: [hosts[n].status(SHARD).version for n in (1, 2)] == [2, 2])
        assert client.version(SHARD) == 2
