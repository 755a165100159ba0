"""What can be used and is unwise: said by `check-config`, and at the start of a server, once each."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner
from structlog.testing import capture_logs

from headrace import checking
from headrace.authority import make_authority, make_server
from headrace.cli import main
from headrace.config import Config, decode_config
from headrace.revoking import make_list
from tests.faults.harness import Server
from tests.support.certificates import Certificates

GIB = 1 << 30

SHARES = "[ingest] max_connections_per_address, max_connects_per_minute, max_records_per_s, max_bytes_per_s"


class Disk(NamedTuple):
    """What `shutil.disk_usage` says."""

    total: int
    used: int
    free: int


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the default paths lead nowhere, on a disk with room, whatever this machine has."""
    monkeypatch.chdir(tmp_path)
    _disk(monkeypatch, total=1000 * GIB, free=500 * GIB)


def test_the_defaults_are_wise() -> None:
    """Nothing to say where nothing was changed."""
    assert checking.of_config(Config(), None) == []


@pytest.mark.parametrize("host", ["0.0.0.0", "0", "0x0", "0.0", "::", "0:0::0", "::ffff:0.0.0.0", ""])  # noqa: S104
def test_listening_on_all_addresses_is_warned_of(host: str, certificates: Certificates) -> None:
    """By whatever name; networks that may connect silence it, and certificates that machines have to show."""
    here = {"host": host, "max_records_per_s": 100.0}
    assert _keys({"ingest": here}) == ["[ingest] host"]
    assert _keys({"ingest": {**here, "allow": ["10.0.0.0/8"]}}) == []
    tls = {"tls_cert": str(certificates.server.certificate), "tls_key": str(certificates.server.key)}
    assert _keys({"ingest": {**here, **tls}}) == ["[ingest] host"]
    own = {"tls_client_ca": str(certificates.ca), "bind_identity": True}
    assert _keys({"ingest": {**here, **tls, **own}}) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "192.168.7.2", "plant.example", "10"])
def test_listening_on_one_address_is_not(host: str) -> None:
    """Who names one has thought of who reaches it."""
    assert _keys({"ingest": {"host": host, "max_bytes_per_s": 1e6}}) == []


@pytest.mark.parametrize("host", ["192.168.7.2", "plant.example", "2001:db8::1"])
def test_machines_without_any_share_are_warned_of(host: str) -> None:
    """One of them is enough: who set one has thought of it."""
    assert _keys({"ingest": {"host": host}}) == [SHARES]
    for key in SHARES.removeprefix("[ingest] ").split(", "):
        assert _keys({"ingest": {"host": host, key: 100}}) == []
    assert _keys({"ingest": {"host": host, "max_connections_per_identity": 2}}) == [SHARES]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "127.0.0.2", "::1", "::ffff:127.0.0.1", "localhost"])
def test_machines_on_this_machine_need_no_share(host: str) -> None:
    """By whatever name."""
    assert _keys({"ingest": {"host": host}}) == []


def test_certificates_that_bind_nobody_are_warned_of(certificates: Certificates) -> None:
    """On loopback too: a tunnel may end there."""
    tls = {
        "tls_cert": str(certificates.server.certificate),
        "tls_key": str(certificates.server.key),
        "tls_client_ca": str(certificates.ca),
    }
    assert _keys({"ingest": tls}) == ["[ingest] bind_identity"]
    assert _keys({"ingest": {**tls, "bind_identity": True}}) == []


def test_pages_without_login_are_warned_of() -> None:
    """On loopback too, where they are possible at all."""
    assert _keys({"http": {"login": False}}) == ["[http] login"]


def test_pages_without_https_on_the_network_are_warned_of() -> None:
    """Unless a proxy makes it HTTPS."""
    assert _keys({"http": {"host": "192.168.7.2"}}) == ["[http] host"]
    assert _keys({"http": {"host": "192.168.7.2", "https": True}}) == []


@pytest.mark.parametrize("place", [".", "worker-1"])
def test_a_journal_that_has_no_room_to_grow_is_warned_of(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """What it holds already counts as its room, a worker's too; that the tables lie there too is said."""
    _disk(monkeypatch, total=100 * GIB, free=3 * GIB)
    (finding,) = checking.of_config(Config(), None)
    assert finding.key == "[journal] max_bytes"
    assert "tables" in finding.reason
    journal = Path("data/journal") / place
    journal.mkdir(mode=0o700, parents=True)
    journal.parent.chmod(0o700)
    with (journal / "00000001.db").open("wb") as segment:
        segment.truncate(GIB)  # takes no room itself
    (journal / "00000001.db").chmod(0o600)
    assert checking.of_config(Config(), None) == []


def test_a_journal_that_takes_most_of_the_tables_disk_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Full, it leaves them no room to take it over; without tables there the disk may be its own."""
    _disk(monkeypatch, total=7 * GIB, free=6 * GIB)
    assert _keys({}) == ["[journal] max_bytes"]
    assert _keys({"journal": {"max_bytes": 3 * GIB}}) == []
    assert _keys({"storage": {"backend": "cassandra"}}) == []


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("[storage.sqlite] path", "data/headrace.db"),
        ("[accounts] path", "data/accounts.db"),
        ("[orders] path", "data/orders.db"),
        ("[log] path", "data/log.db"),
        ("[mes] path", "data/mes.db"),
    ],
)
def test_a_database_that_others_can_read_is_warned_of(key: str, path: str, suffix: str) -> None:
    """With its companions; not where its folder lets nobody else in."""
    file = Path(path + suffix)
    file.parent.mkdir()
    file.parent.chmod(0o755)
    file.touch()
    file.chmod(0o640)
    (finding,) = checking.of_config(Config(), None)
    assert (finding.key, finding.right) == (key, f"chmod go= {path}*")
    file.parent.chmod(0o700)
    assert checking.of_config(Config(), None) == []
    file.parent.chmod(0o755)
    file.chmod(0o600)
    assert checking.of_config(Config(), None) == []


def test_a_journal_that_others_can_read_is_warned_of_once() -> None:
    """However many files it has, and whether it is the folder or one of them."""
    journal = Path("data/journal")
    journal.mkdir(parents=True)
    journal.parent.chmod(0o755)
    journal.chmod(0o755)
    for number in range(3):
        (journal / f"0000000{number}.db").touch()
    assert [finding.key for finding in checking.of_config(Config(), None)] == ["[journal] path"]
    journal.chmod(0o700)
    assert checking.of_config(Config(), None) == []


def test_a_private_key_that_others_can_read_is_warned_of() -> None:
    """It is only as private as its file."""
    Path().absolute().chmod(0o755)
    for name in ("ca", "cert", "key"):
        Path(name).touch(mode=0o644)
        Path(name).chmod(0o644)
    settings = {"storage": {"cassandra": {"tls_ca": "ca", "tls_cert": "cert", "tls_key": "key"}}}
    assert _keys(settings) == ["[storage.cassandra] tls_key"]
    Path("key").chmod(0o600)
    assert _keys(settings) == []


@pytest.mark.parametrize("key", ["[storage.cassandra] tls_key", "[accounts] path"])
def test_what_lies_elsewhere_is_looked_at_there(key: str) -> None:
    """A link in a folder of one's own keeps nobody from what it leads to; what it leads to is named."""
    mine, shared = Path("mine").absolute(), Path("shared").absolute()
    mine.mkdir(mode=0o700)
    shared.mkdir()
    shared.chmod(0o755)
    for name in ("ca", "cert", "key"):
        (shared / name).touch()
        (shared / name).chmod(0o644)
    (mine / "key").symlink_to(shared / "key")
    tls = {"tls_ca": "shared/ca", "tls_cert": "shared/cert", "tls_key": "mine/key"}
    settings: dict[str, Any] = {
        "[storage.cassandra] tls_key": {"storage": {"cassandra": tls}},
        "[accounts] path": {"accounts": {"path": "mine/key"}},
    }
    config = decode_config(settings[key], "a file")
    (finding,) = checking.of_config(config, None)
    assert (finding.key, finding.right) == (key, f"chmod go= {shared / 'key'}*")
    shared.chmod(0o700)
    mine.chmod(0o755)
    assert checking.of_config(config, None) == []


def test_what_stands_beside_the_target_of_a_link_is_looked_at_too() -> None:
    """A database writes its log where it really lies."""
    shared = Path("shared").absolute()
    shared.mkdir()
    shared.chmod(0o755)
    for name, mode in (("log.db", 0o600), ("log.db-wal", 0o644)):
        (shared / name).touch()
        (shared / name).chmod(mode)
    Path("link.db").symlink_to(shared / "log.db")
    assert _keys({"log": {"path": "link.db"}}) == ["[log] path"]


def test_what_says_who_is_let_in_is_warned_of_where_others_can_change_it(certificates: Certificates) -> None:
    """The configuration itself, authorities and lists; by its own rights, or as its folder is everybody's."""
    folder = Path("shared").absolute()
    folder.mkdir()
    folder.chmod(0o755)
    listing = make_list(certificates.folder).path
    source, authorities, revoked = folder / "config.toml", folder / "ca.pem", folder / "ca.crl"
    source.touch(mode=0o644)
    shutil.copy(certificates.ca, authorities)
    shutil.copy(listing, revoked)
    config = decode_config(
        {
            "ingest": {
                "tls_cert": str(certificates.server.certificate),
                "tls_key": str(certificates.server.key),
                "tls_client_ca": str(authorities),
                "tls_client_crl": str(revoked),
                "bind_identity": True,
            }
        },
        "a file",
    )
    named = {
        "configuration": source,
        "[ingest] tls_client_ca": authorities,
        "[ingest] tls_client_crl": revoked,
    }
    for path in named.values():
        path.chmod(0o644)
    assert checking.of_config(config, source) == []
    for key, path in named.items():
        for mode in (0o666, 0o664):
            path.chmod(mode)
            (finding,) = checking.of_config(config, source)
            assert (finding.key, finding.right) == (key, f"chmod go-w {path}")
        folder.chmod(0o700)
        assert checking.of_config(config, source) == [], "nobody gets there"
        folder.chmod(0o755)
        path.chmod(0o644)
    folder.chmod(0o777)
    found = checking.of_config(config, source)
    assert [(each.key, each.right) for each in found] == [(key, f"chmod go-w {folder}") for key in named]
    folder.chmod(0o1777)
    assert checking.of_config(config, source) == [], "as in /tmp"


def test_the_authority_of_the_database_is_warned_of_where_others_can_change_it() -> None:
    """Who can write it can stand in for the nodes; where a link lies counts as well as where it leads."""
    elsewhere = Path("elsewhere").absolute()
    elsewhere.mkdir(mode=0o700)
    (elsewhere / "ca").touch(mode=0o600)
    Path("everybodys").mkdir()
    Path("everybodys").chmod(0o777)
    Path("everybodys/ca").symlink_to(elsewhere / "ca")
    settings = {"storage": {"cassandra": {"tls_ca": "everybodys/ca"}}}
    assert _keys(settings) == ["[storage.cassandra] tls_ca"]
    Path("everybodys").chmod(0o755)
    assert _keys(settings) == []


def test_certificates_that_end_soon_are_warned_of(tmp_path: Path) -> None:
    """The server's own, and the list of revoked ones; with one that can't be used nothing is good."""
    tmp_path.chmod(0o700)
    ca = make_authority(tmp_path, "Plant", days=100)
    server = make_server(tmp_path, ["localhost"], days=20)
    files = {
        "tls_cert": str(server.certificate),
        "tls_key": str(server.key),
        "tls_client_ca": str(ca.certificate),
        "bind_identity": True,
        "tls_client_crl": str(make_list(tmp_path).path),
    }
    assert _keys({"ingest": files}) == []
    make_server(tmp_path, ["localhost"], days=13, force=True)
    (finding,) = checking.of_config(decode_config({"ingest": files}, "a file"), None)
    assert (finding.key, "ends on 2" in finding.reason) == ("[ingest] tls_cert", True)
    with capture_logs() as lines:
        checking.say(decode_config({"ingest": {**files, "tls_key": "gone"}}, "a file"), None)
    assert next(line["key"] for line in lines if line["event"] == "unwise") == "[ingest] tls_cert"
    server.key.unlink()
    path = tmp_path / "config.toml"
    path.write_text(f'[ingest]\ntls_cert = "{server.certificate}"\ntls_key = "{server.key}"\n')
    result = CliRunner().invoke(main, ["check-config", "--config", str(path)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"headrace: [ingest] tls_key: {server.key}: No such file or directory\n"


def test_serving_as_root_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the configuration."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert [finding.key for finding in checking.of_process()] == ["user"]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert checking.of_process() == []


def test_check_config_shows_them_and_calls_the_file_good(tmp_path: Path) -> None:
    """It can be used all the same: exit status 0, a line each with key, reason and what would be right."""
    path = tmp_path / "config.toml"
    path.write_text('[ingest]\nhost = "0.0.0.0"\n[http]\nhost = "192.168.7.2"\n')
    result = CliRunner().invoke(main, ["check-config", "--config", str(path)])
    assert result.exit_code == 0
    assert result.stdout == f"{path}: good\n"
    lines = result.stderr.splitlines()
    assert [line.partition(": ")[2].partition(": ")[0] for line in lines] == [
        "[ingest] host",
        SHARES,
        "[http] host",
    ]
    assert "allow limits it" in lines[0]


def test_check_config_shows_that_others_can_change_the_file(tmp_path: Path) -> None:
    """Whatever stands in it, as that may be another thing tomorrow."""
    tmp_path.chmod(0o755)
    path = tmp_path / "config.toml"
    path.touch()
    path.chmod(0o666)
    result = CliRunner().invoke(main, ["check-config", "--config", str(path)])
    assert result.exit_code == 0
    assert result.stderr == (
        f"warning: configuration: other users of this machine can change {path}; chmod go-w {path}\n"
    )


def test_a_server_says_them_at_its_start_once_each(server: Server) -> None:
    """With key, reason, and what would be right."""
    server.configure({"ingest": {"host": "0.0.0.0"}})  # noqa: S104
    server.start()
    assert server.stop() == 0
    said = [line for line in server.said() if line["event"] == "unwise"]
    keys = [line["key"] for line in said]
    assert {"[ingest] host", SHARES, "[http] login"} <= set(keys)
    assert ("user" in keys) is (os.geteuid() == 0)
    assert len(keys) == len(set(keys))
    assert all(line["level"] == "warning" and line["reason"] and line["right"] for line in said)


def _keys(content: Mapping[str, object]) -> list[str]:
    return [finding.key for finding in checking.of_config(decode_config(dict(content), "a file"), None)]


def _disk(monkeypatch: pytest.MonkeyPatch, *, total: int, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(total, total - free, free))
