"""Reading settings: file, environment, and faults that are found all at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from dwd.base.errors import InvalidArgument, NotFound, StorageFailed
from dwd.config.load import load
from dwd.config.settings import Settings


@pytest.fixture
def write(tmp_path):
    def put(text: str) -> Path:
        path = tmp_path / "dwd.toml"
        path.write_text(text)
        return path

    return put


def _faults(path: Path | None, env: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(InvalidArgument) as caught:
        load(path, env or {})
    assert caught.value.code == "config.invalid"
    lines = caught.value.message.splitlines()[1:]
    assert caught.value.fields["faults"] == len(lines)
    return [line.strip() for line in lines]


def test_defaults_hold_when_nothing_is_said() -> None:
    settings = load(None, {"PATH": "/bin"})
    assert str(settings.listen.grpc) == "127.0.0.1:7400"
    assert settings.advertise == settings.listen.grpc
    assert [str(d.path) for d in settings.devices] == ["/var/lib/dwd/data/devices/d0"]
    assert settings.node.name


def test_values_are_taken_when_the_file_has_them(write) -> None:
    settings = load(
        write(
            """
            [node]
            name = "n1"
            data_dir = "/srv/a/data"
            identity_dir = "/srv/a/identity"
            [listen]
            grpc = "[::1]:0"
            [s3]
            inline_bytes_max = "64KiB"
            [[device]]
            path = "/srv/d1"
            [[device]]
            path = "/srv/d2"
            weight = 2.5
            [telemetry]
            log_level = "debug"
            """
        ),
        {},
    )
    assert (settings.node.name, settings.node.data_dir) == ("n1", Path("/srv/a/data"))
    assert (settings.listen.grpc.host, settings.listen.grpc.port) == ("::1", 0)
    assert settings.s3.inline_bytes_max == 65_536
    assert [(str(d.path), d.weight) for d in settings.devices] == [("/srv/d1", 1.0), ("/srv/d2", 2.5)]
    assert settings.telemetry.log_level.value == "debug"


def test_environment_wins_when_both_speak(write) -> None:
    path = write("[raft]\ntick_ms = 100\n[node]\nname = 'a'\n")
    settings = load(path, {"DWD_RAFT_TICK_MS": "50", "DWD_NODE_NAME": "b", "DWD_CONFIG": str(path)})
    assert (settings.raft.tick_ms, settings.node.name) == (50, "b")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[listn]\n", "listn: no such section (did you mean listen?)"),
        ("[listen]\ngrcp = 'x'\n", "listen.grcp: no such key (did you mean grpc?)"),
        ("[listen]\ndata_dir = 'x'\n", "listen.data_dir: no such key (data_dir belongs in [node])"),
        ("[[device]]\npath = '/a'\nweigth = 1\n", "device[0].weigth: no such key (did you mean weight?)"),
        ("[grpc]\nlisten = 'x'\n", "grpc: no such section (grpc belongs in [listen])"),
        ("colour = 3\n", "colour: no such section"),
        ("raft = 3\n", "raft: must be a section, [raft]"),
        ("[device]\npath = '/a'\n", "device: must be written [[device]], once for each"),
        ("[[device]]\nweight = 1\n", "device[0].path: field required"),
        ("[listen]\ns3 = 'nope'\n", "listen.s3: must be host:port, not 'nope'"),
        (
            "[listen]\ns3 = '1.2.3.4:99999'\n",
            "listen.s3: the port must be a number from 0 to 65535, not '1.2.3.4:99999'",
        ),
        (
            "[listen]\ns3 = '::1:7480'\n",
            """listen.s3: an IPv6 address stands in brackets: "[::1]:7400", not '::1:7480'""",
        ),
        ("[listen]\ns3 = 7480\n", "listen.s3: must be a string like 127.0.0.1:7400, not '7480'"),
        ("[raft]\ntick_ms = 5\n", "raft.tick_ms: must be greater than or equal to 20, not '5'"),
        ("[blocks]\nvolume_bytes = '1 GB!'\n", "blocks.volume_bytes: not a size: '1 GB!'"),
        ("[telemetry]\nlog_level = 'loud'\n", "telemetry.log_level: must be 'debug', 'info', 'warning' or 'error'"),
    ],
)
def test_fault_says_where_and_what_when_a_value_is_wrong(write, text, fault) -> None:
    (found,) = _faults(write(text))
    assert found.startswith(fault)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[listen]\ngrpc = '0.0.0.0:7400'\n", "listen.advertise: is needed"),
        ("[listen]\ngrpc = '[::]:7400'\n", "listen.advertise: is needed"),
        ("[listen]\nadvertise = '0.0.0.0:7400'\n", "listen.advertise: 0.0.0.0:7400 is a wildcard"),
        ("[listen]\nadvertise = 'n1.example:0'\n", "listen.advertise: must name a port"),
        ("[listen]\ns3 = '127.0.0.1:7400'\n", "listen.s3: 127.0.0.1:7400 is taken by listen.grpc"),
        ("[listen]\nadmin = '0.0.0.0:7480'\n", "listen.admin: 0.0.0.0:7480 is taken by listen.s3"),
        ("[node]\ndata_dir = 'data'\n", "node.data_dir: data must be an absolute path"),
        ("[node]\nidentity_dir = '/var/lib/dwd/data/id'\n", "node.identity_dir: /var/lib/dwd/data/id lies in data_dir"),
        (
            "[[device]]\npath = '/a'\n[[device]]\npath = '/a'\n",
            "device[1].path: /a and device[0] at /a are not distinct",
        ),
        ("[[device]]\npath = '/a'\n[[device]]\npath = '/a/b'\n", "device[1].path: /a/b and device[0] at /a are not"),
        ("[[device]]\npath = 'a'\n", "device[0].path: a must be an absolute path"),
        ("[[device]]\npath = '/a'\nweight = 0\n", "device[0].weight: at least one device"),
        (
            "[[device]]\npath = '/var/lib/dwd/data'\n",
            "device[0].path: /var/lib/dwd/data must be a directory of its own",
        ),
        ("[tls]\ns3_key = '/k'\n", "tls.s3_certificate: is missing beside s3_key"),
        ("[tls]\nadmin_certificate = '/c'\n", "tls.admin_key: is missing beside admin_certificate"),
        ("[raft]\nelection_ticks = 5\n", "raft.election_ticks: 5 must be at least three times heartbeat_ticks"),
        ("[raft]\ntrailing_entries = 10000\n", "raft.trailing_entries: 10000 must be less than"),
        ("[blocks]\nvolume_bytes = 70000000\n", "blocks.volume_bytes: 66.8 MiB must be a whole number of MiB"),
        ("[limits]\ncalls_max = 100\n", "limits.calls_per_peer_max: 1000 must not exceed calls_max (100)"),
    ],
)
def test_fault_says_what_does_not_fit_when_values_disagree(write, text, fault) -> None:
    (found,) = _faults(write(text))
    assert found.startswith(fault)


def test_all_faults_are_listed_when_there_are_many(write) -> None:
    text = """
    [node]
    nmae = "x"
    identity_dir = "/var/lib/dwd/data"
    [listen]
    grpc = "0.0.0.0:7400"
    s3 = "nope"
    [raft]
    tick_ms = 1
    """
    found = _faults(write(text), {"DWD_GC_DELETES_PER_SECOND": "many", "DWD_RAFT_TIK_MS": "1"})
    assert [line.partition(":")[0] for line in found] == [
        "DWD_RAFT_TIK_MS",
        "node.nmae",
        "listen.s3",
        "raft.tick_ms",
        "gc.deletes_per_second (from DWD_GC_DELETES_PER_SECOND)",
        "listen.advertise",
        "node.identity_dir",
    ]


def test_relation_is_not_judged_when_one_of_its_values_is_faulty(write) -> None:
    found = _faults(write("[raft]\nsnapshot_entries = 'x'\ntrailing_entries = 20000\n"))
    assert [line.partition(":")[0] for line in found] == ["raft.snapshot_entries"]


@pytest.mark.parametrize("variable", ["DWD_RAFT_TICK", "DWD_RAFT", "DWD_DEVICE_PATH", "DWD_WHATEVER"])
def test_variable_is_refused_when_it_names_no_setting(variable) -> None:
    (found,) = _faults(None, {variable: "1"})
    assert found.startswith(f"{variable}: no such setting")


def test_secret_stays_hidden_when_its_value_is_wrong(write) -> None:
    text = "[telemetry]\notlp_endpoint = 'ftp://user:hunter2@host'\npassword = 'hunter2'\n"
    with pytest.raises(InvalidArgument) as caught:
        load(write(text), {"DWD_S3_SECRET": "hunter2"})
    assert "hunter2" not in f"{caught.value}{caught.value.hint}{caught.value.fields}"
    assert "telemetry.otlp_endpoint" in caught.value.message


def test_fault_names_the_line_when_the_file_is_not_toml(write) -> None:
    (found,) = _faults(write("[node]\nname = \n"))
    assert found.startswith("is not TOML")
    assert "line 2" in found


def test_file_is_refused_when_it_is_not_text_or_too_large(tmp_path) -> None:
    path = tmp_path / "dwd.toml"
    path.write_bytes(b"\xff\xfe")
    assert _faults(path)[0].startswith("is not TOML")
    path.write_bytes(b"#" * ((1 << 20) + 1))
    assert _faults(path) == ["is larger than 1048576 bytes"]


def test_error_is_of_the_file_when_it_cannot_be_read(tmp_path) -> None:
    with pytest.raises(NotFound):
        load(tmp_path / "none.toml", {})
    with pytest.raises(StorageFailed):
        load(tmp_path, {})


def test_settings_cannot_be_changed_when_loaded() -> None:
    settings: Settings = load(None, {})
    with pytest.raises(ValueError, match="frozen"):
        settings.raft.tick_ms = 50  # type: ignore[misc]
