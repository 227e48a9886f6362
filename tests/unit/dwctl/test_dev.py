"""The development cluster's plan, ports and processes, with programs that only wait in place of daemons."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from dwctl.dev import cluster, processes
from dwctl.dev.commands import alone
from dwctl.dev.layout import DevFolder, daemon_names, free_ports, load_plan, make_plan, write_config
from dwd.base.errors import Busy, DwError, InvalidArgument, NotFound, Unavailable
from dwd.config.load import load
from dwd.pb.admin.v1 import admin_pb2 as pb
from tests.unit.dwctl.conftest import Ran

Dwctl = Callable[..., Ran]
PATIENT = "import signal, sys; print('up', flush=True); signal.pause()"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DevFolder]:
    """Three planned nodes; starting one starts a program that waits."""
    made = DevFolder(root=tmp_path / "dev")
    made.root.mkdir()
    plan = make_plan(made, nodes=3, profile="auto")
    for node in plan.nodes:
        made.node(node.name).mkdir()
        write_config(made, plan, node)
    become(monkeypatch, PATIENT)
    yield made
    monkeypatch.setattr(processes, "STOP_SECONDS", 0.2)
    processes.stop(made, daemon_names(made))


def become(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr(processes, "daemon", lambda *arguments: [sys.executable, "-c", program, *arguments])


def started(folder: DevFolder, name: str) -> int:
    """Once it is up."""
    pid = processes.start(folder, name)
    while "up" not in folder.log(name).read_text():
        os.sched_yield()
    return pid


def test_plan_has_free_ports_and_is_kept_as_it_was_made(folder: DevFolder) -> None:
    plan = load_plan(folder)
    addresses = [address for node in plan.nodes for address in (node.grpc, node.s3, node.admin)]
    assert len(set(addresses)) == 9
    for address in addresses:
        host, _, port = address.rpartition(":")
        with socket.socket() as taken:
            taken.bind((host, int(port)))
    assert [node.zone for node in plan.nodes] == ["z1", "z2", "z3"]


def test_port_in_use_is_passed_over() -> None:
    first = free_ports(3)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first[1]))
        second = free_ports(3)
    assert first[1] not in second
    assert len(set(second)) == 3


def test_written_settings_are_what_a_daemon_reads(folder: DevFolder) -> None:
    plan = load_plan(folder)
    settings = load(folder.config("n2"), {})
    assert (settings.node.name, settings.node.zone, str(settings.listen.s3)) == ("n2", "z2", plan.nodes[1].s3)
    assert settings.node.data_dir == folder.data("n2").resolve()


def test_damaged_or_missing_plan_says_what_to_do(folder: DevFolder) -> None:
    folder.plan.write_text("{}")
    with pytest.raises(InvalidArgument, match="cannot be read"):
        load_plan(folder)
    folder.plan.unlink()
    with pytest.raises(NotFound) as caught:
        load_plan(folder)
    assert "dwctl dev up" in caught.value.hint


def test_daemon_is_started_once_and_stopped(folder: DevFolder) -> None:
    pid = started(folder, "n1")
    assert processes.start(folder, "n1") == pid
    assert processes.process_state(folder, "n1") is processes.ProcessState.RUNNING
    assert processes.stop(folder, ["n1", "n2"]) == []
    assert processes.process_state(folder, "n1") is processes.ProcessState.STOPPED


def test_pid_that_belongs_to_another_program_does_not_count(folder: DevFolder) -> None:
    folder.pid("n1").write_text(f"{os.getpid()}\n")
    assert processes.live_pid(folder, "n1") is None
    for damage in ("", "x", "999999999"):
        folder.pid("n1").write_text(damage)
        assert processes.live_pid(folder, "n1") is None
    with pytest.raises(Unavailable, match="does not run"):
        processes.signal_node(folder, "n1", signal.SIGKILL)


def test_daemon_whose_pid_was_never_written_down_is_found(folder: DevFolder) -> None:
    pid = started(folder, "n1")
    folder.pid("n1").unlink()
    assert processes.start(folder, "n1") == pid
    folder.pid("n1").unlink()
    assert processes.stop(folder, ["n1"]) == []
    assert processes.live_pid(folder, "n1") is None
    assert not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes()


def test_paused_daemon_is_seen_woken_and_stopped(dwctl: Dwctl, folder: DevFolder) -> None:
    started(folder, "n1")
    processes.signal_node(folder, "n1", signal.SIGSTOP)
    while processes.process_state(folder, "n1") is not processes.ProcessState.PAUSED:
        os.sched_yield()
    ran = dwctl("dev", "status", "--dir", str(folder.root), "--json")
    assert [node["state"] for node in ran.document["nodes"]] == ["paused", "stopped", "stopped"]
    assert dwctl("dev", "down", "--dir", str(folder.root), "--json").document["killed"] == []
    assert processes.live_pid(folder, "n1") is None


def test_stubborn_daemon_is_killed_and_named(folder: DevFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, STUBBORN)
    started(folder, "n1")
    monkeypatch.setattr(processes, "STOP_SECONDS", 0.2)
    assert processes.stop(folder, ["n1"]) == ["n1"]
    assert processes.live_pid(folder, "n1") is None


@pytest.mark.parametrize("damage", ["no plan", "bad plan", "bad key", "no files"])
def test_down_works_whatever_is_left_of_the_directory(dwctl: Dwctl, folder: DevFolder, damage: str) -> None:
    pid = started(folder, "n2")
    folder.operator.mkdir()
    (folder.operator / "s3.json").write_text("{" if damage == "bad key" else '{"access_key": "a"}')
    if damage == "no plan":
        folder.plan.unlink()
    elif damage == "bad plan":
        folder.plan.write_text("[]")
    elif damage == "no files":
        (folder.operator / "s3.json").unlink()
    ran = dwctl("dev", "down", "--dir", str(folder.root))
    assert (ran.code, ran.err) == (0, "")
    assert processes.live_pid(folder, "n2") is None, pid
    assert dwctl("dev", "down", "--dir", str(folder.root)).code == 0


def test_down_does_nothing_where_there_is_no_cluster(dwctl: Dwctl, tmp_path: Path) -> None:
    ran = dwctl("dev", "down", "--dir", str(tmp_path / "nowhere"))
    assert (ran.code, "nothing to stop" in ran.out) == (0, True)


def test_second_command_on_a_directory_is_refused_while_one_works(folder: DevFolder) -> None:
    with alone(folder), pytest.raises(Busy, match="another dwctl dev"), alone(folder):
        pytest.fail("both have it")
    with alone(folder):
        pass


def test_ended_daemon_is_told_with_the_end_of_its_log(folder: DevFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, "print('port in use')")
    processes.start(folder, "n1")
    with pytest.raises(Unavailable, match="port in use"):
        cluster.wait_ready(folder, [load_plan(folder).nodes[0]], lambda _text: None)


def test_failed_command_is_told_in_its_own_words(folder: DevFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, "import sys; sys.stderr.write('token used ' + sys.stdin.read()); sys.exit(7)")
    with pytest.raises(DwError, match="token used SECRET"):
        processes.run_daemon_command("join", "-", stdin="SECRET")


def test_node_is_meant_by_name_number_or_id(folder: DevFolder) -> None:
    folder.identity("n2").mkdir(parents=True)
    (folder.identity("n2") / "identity.json").write_text(json.dumps({"node_id": "00aa"}))
    plan = load_plan(folder)
    assert {cluster.select(folder, plan, wanted).name for wanted in ("n2", "2", "00aa")} == {"n2"}
    with pytest.raises(NotFound, match="n9"):
        cluster.select(folder, plan, "n9")
    with pytest.raises(NotFound):
        cluster.select(folder, plan, "")


@pytest.mark.parametrize(("nodes", "regions"), [(0, 1), (3, 2), (-1, 1)])
def test_sizes_that_cannot_be_made_are_refused(dwctl: Dwctl, tmp_path: Path, nodes: int, regions: int) -> None:
    ran = dwctl("dev", "up", "--nodes", str(nodes), "--regions", str(regions), "--dir", str(tmp_path / "d"))
    assert (ran.code, (tmp_path / "d").exists()) == (2, False)


def status(nodes: int, voters: int, *, active: int | None = None, health: str = "healthy") -> pb.ClusterStatusReply:
    reply = pb.ClusterStatusReply(health=health)
    for number in range(nodes):
        reply.devices.add(state="active" if number < (nodes if active is None else active) else "failed")
    for group in range(2):
        info = reply.groups.add(group=group)
        for _ in range(voters):
            info.members.add(role="voter")
    return reply


def test_cluster_is_settled_with_all_devices_and_the_voters_its_size_allows() -> None:
    for nodes, voters in ((1, 1), (2, 1), (3, 3), (4, 3), (5, 5), (6, 5), (9, 5)):
        assert cluster.unsettled(status(nodes, voters), nodes) == ""
        if voters > 1:
            assert "voters" in cluster.unsettled(status(nodes, voters - 1), nodes)
    assert "devices: 5 of 6" in cluster.unsettled(status(6, 5, active=5), 6)
    assert "degraded" in cluster.unsettled(status(6, 5, health="degraded"), 6)
    assert "voters" in cluster.unsettled(pb.ClusterStatusReply(health="healthy"), 0)


def test_cluster_of_many_shards_is_given_more_time_when_it_is_not_ready_yet(
    folder: DevFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]

    def wait(seconds: float) -> None:
        now[0] += max(seconds, 1.0)

    monkeypatch.setattr(cluster, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=wait))
    monkeypatch.setattr(cluster, "is_ready", lambda node: now[0] > 200)
    nodes = list(load_plan(folder).nodes)
    for node in nodes:
        started(folder, node.name)
    with pytest.raises(Unavailable, match="not ready after 60 s"):
        cluster.wait_ready(folder, nodes, lambda _: None)
    now[0] = 0.0
    cluster.wait_ready(folder, nodes, lambda _: None, shards=400)
    assert 200 < now[0] < 210
