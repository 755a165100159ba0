"""What a wrong configuration gets: the file, the key, and what would be right; exit status 2."""

import asyncio
import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from structlog.testing import capture_logs

from headrace.cli import main
from headrace.config import MAX_BYTES, Config, load_config
from headrace.errors import ConfigError
from headrace.reload import Reloader, values

ROOT = Path(__file__).parents[2]

WRONG = [
    ("[ingest]\nnode_id = 1024", "[ingest] node_id", "1023"),
    ("[ingest]\nnode_id = -1", "[ingest] node_id", ">= 0"),
    ("[ingest]\nport = 70000", "[ingest] port", "65535"),
    ("[ingest]\nhost = 'gate..plant'", "[ingest] host", "no name of a host"),
    ("[ingest]\nack_port = 9400", "[ingest] ack_port", "is port already"),
    ('[ingest]\nport = "9400"', "[ingest] port", "int"),
    ("[ingest]\nprot = 9400", "[ingest] prot", "port"),
    ("[ingest]\nmax_record_bytes = 1", "[ingest] max_record_bytes", "32"),
    ("[ingest]\ntick_ms = 0", "[ingest] tick_ms", ">= 1"),
    ("[ingest]\nidle_timeout_s = 0", "[ingest] idle_timeout_s", "> 0"),
    ("[ingest]\nmax_connections = 0", "[ingest] max_connections", ">= 1"),
    ("[ingest]\nmax_connections = 9223372036854775808", "[ingest] max_connections", "64 bits"),
    ("[storage.rejects]\nrows = 100000000000000000000", "[storage.rejects] rows", "64 bits"),
    ("[ingest]\nmax_connections_per_address = 0", "[ingest] max_connections_per_address", ">= 1"),
    ("[ingest]\nmax_records_per_s = 0", "[ingest] max_records_per_s", "> 0"),
    ("[ingest]\nrecord_timeout_s = 0", "[ingest] record_timeout_s", "> 0"),
    ("[ingest]\nkeepalive_s = 0", "[ingest] keepalive_s", ">= 1"),
    ('[ingest]\nend_of_stream = "maybe"', "[ingest] end_of_stream", "'record' or 'reject'"),
    ('[ingest]\nallow = ["192.168.7.0/24", "10.0.0.1/8"]', "[ingest] allow", "192.168.7.0/24"),
    ("[ingest]\nallow = [7]", "[ingest] allow", "str"),
    ("[ingest]\ntls_cert = 'a.pem'", "[ingest] tls_key", "beside tls_cert"),
    ("[ingest]\ntls_client_ca = 'a.pem'", "[ingest] tls_client_ca", "needs tls_cert"),
    ("[ingest]\ntls_client_crl = 'a.crl'", "[ingest] tls_client_crl", "needs tls_client_ca"),
    ("[ingest]\nbind_identity = true", "[ingest] bind_identity", "needs tls_client_ca"),
    ("[ingest.identities]\ngateway = ['E1']", "[ingest] identities", "bind_identity = true"),
    ("[ingest.identities]\ngateway = 'E1'", "[ingest] identities", "array"),
    ('[record]\ndelimiter = "##"', "[record] delimiter", "one ASCII byte"),
    ('[record]\ndelimiter = "5"', "[record] delimiter", "'#'"),
    ('[record]\nfield_delimiter = "."', "[record] field_delimiter", "','"),
    ('[record]\nfield_delimiter = "#"', "[record] field_delimiter", "differ"),
    ('[record]\nfields = ["device_id"]', "[record] fields", "spindle_temperature_c"),
    ('[record]\nfields = ["a", "b", "c", "d", "e", "f"]', "[record] fields", "each of these once"),
    ("[record.limits]\npower = [0, 1]", "[record] limits.power", "power_kw"),
    ("[record.limits]\npower_kw = [2, 1]", "[record] limits.power_kw", "[lowest, highest]"),
    ("[record.limits]\npower_kw = [2]", "[record] limits", "length 2"),
    ("[journal]\nmax_bytes = 1000", "[journal] max_bytes", "16777216"),
    ("[journal]\nkeep_hours = -1", "[journal] keep_hours", ">= 0"),
    ("[journal]\nkeep_hours = inf", "[journal] keep_hours", "<= 876000"),
    ("[journal]\nkeep_hours = nan", "[journal] keep_hours", ">= 0"),
    ('[storage]\nbackend = "mysql"', "[storage] backend", "must be 'sqlite'"),
    ("[storage]\nkeep_days = 0", "[storage] keep_days", "> 0"),
    ("[storage]\nkeep_days = inf", "[storage] keep_days", "<= 36500"),
    ("[storage]\nkeep_days = nan", "[storage] keep_days", "> 0"),
    ("[storage.sqlite]\nfile = 'x'", "[storage.sqlite] file", "path"),
    ("[storage.sqlite]\npath = ''", "[storage.sqlite] path", ">= 1"),
    ("[storage.rejects]\nper_minute = -1", "[storage.rejects] per_minute", ">= 0"),
    ("[http]\nport = true", "[http] port", "int"),
    ("[accounts]\nsession_hours = 0", "[accounts] session_hours", "> 0"),
    ("[accounts]\nfailures = 0", "[accounts] failures", ">= 1"),
    ("[accounts]\npassword = 'x'", "[accounts] password", "lockout_s"),
    ('[orders]\nmes_url = "ftp://mes"', "[orders] mes_url", "https?"),
    ('[orders]\nmes_url = "http://mes/path"', "[orders] mes_url", "https?"),
    ("[orders]\nmax_amount = 0", "[orders] max_amount", ">= 1"),
    ("[log.keep_days]\nINFO = 0", "[log.keep_days] INFO", "> 0"),
    ("[log.keep_days]\nDEBUG = 1", "[log.keep_days] DEBUG", "FATAL"),
    ("[mes]\npiece_s = -1", "[mes] piece_s", ">= 0"),
    ("[web]\nport = 1", "web", "http"),
    ("ingest = 5", "ingest", "object"),
    ("[ingest\nport = 1", "is not TOML", "line 1"),
    ('[ingest]\nhost = "a\\u0000b"', "[ingest] host", "no name of a host"),
]
ODD = {
    "a number of 5000 digits": ("[ingest]\nport = " + "1" * 5000, "a number with thousands of digits"),
    "one in base 16": ("[ingest]\nport = 0x" + "1" * 5000, "[ingest] port: an integer of TOML has 64 bits"),
    "lists within lists": ("x = " + "[" * 5000 + "]" * 5000, "within one another"),
    "tables within tables": ("[" + ".".join("a" * 3000) + "]\nb = 1", "within one another"),
    "tables on one line": ("x = " + "{a = " * 3000 + "1" + "}" * 3000, "within one another"),
}
"""By what it is: a file that no person writes, and what is said of it."""

PATHS = [
    ("[journal]", "path", ""),
    ("[storage.sqlite]", "path", ""),
    ("[storage.cassandra]", "tls_ca", ""),
    ("[storage.cassandra]", "tls_cert", "tls_ca = 'a'\ntls_key = 'b'"),
    ("[storage.cassandra]", "tls_key", "tls_ca = 'a'\ntls_cert = 'b'"),
    ("[accounts]", "path", ""),
    ("[orders]", "path", ""),
    ("[log]", "path", ""),
    ("[mes]", "path", ""),
    ("[ingest]", "tls_cert", "tls_key = 'a'"),
    ("[ingest]", "tls_key", "tls_cert = 'a'"),
    ("[ingest]", "tls_client_ca", "tls_cert = 'a'\ntls_key = 'b'"),
    ("[ingest]", "tls_client_crl", "tls_cert = 'a'\ntls_key = 'b'\ntls_client_ca = 'c'"),
]
NO_PATHS = {
    "a\\u0000b": "can't have the character U+0000 in it",
    "a" * 5000: "has 3840 bytes at most",
    "a/" * 2000: "has 3840 bytes at most",
    "\N{LATIN SMALL LETTER A WITH DIAERESIS}" * 125: "240 in each of its names",
}


@pytest.mark.parametrize(("content", "key", "right"), WRONG, ids=[content for content, _, _ in WRONG])
def test_a_wrong_file_is_named_with_its_key_and_what_would_be_right(
    content: str, key: str, right: str, tmp_path: Path
) -> None:
    """One line, no traceback, exit status 2."""
    path = tmp_path / "wrong.toml"
    path.write_text(content)
    result = CliRunner().invoke(main, ["check-config", "--config", str(path)])
    assert result.exit_code == 2
    assert result.output.startswith(f"headrace: {path}: ")
    assert key in result.output
    assert right in result.output
    assert result.output.count("\n") == 1


@pytest.mark.parametrize("odd", ODD)
def test_a_file_that_no_person_writes_is_refused_like_any_other(odd: str, tmp_path: Path) -> None:
    """By a reload as well, which says no more of it than its line."""
    content, said = ODD[odd]
    path = tmp_path / "odd.toml"
    path.write_text(content)
    result = CliRunner().invoke(main, ["check-config", "--config", str(path)])
    assert result.exit_code == 2
    assert result.output.startswith(f"headrace: {path}: ")
    assert said in result.output
    assert result.output.count("\n") == 1
    with capture_logs() as lines:
        asyncio.run(Reloader(path, Config(), _nobody).reload())
    assert lines == [
        {
            "event": "configuration_refused",
            "log_level": "error",
            "reason": result.output.removeprefix("headrace: ").rstrip("\n"),
        }
    ]


async def _nobody(_: Config) -> None:
    raise AssertionError("nothing is taken over")


@pytest.mark.parametrize(("section", "key", "beside"), PATHS)
def test_what_can_be_no_path_is_refused(section: str, key: str, beside: str, tmp_path: Path) -> None:
    """Before anybody looks for the file."""
    path = tmp_path / "wrong.toml"
    for text, said in NO_PATHS.items():
        path.write_text(f'{section}\n{beside}\n{key} = "{text}"\n')
        with pytest.raises(ConfigError) as error:
            load_config(path)
        assert str(error.value).startswith(f"{path}: {section} {key}: a path ")
        assert said in str(error.value)


def test_every_path_is_tried_here() -> None:
    """So that a new one is refused, too."""
    named = {(section.strip("[]"), key) for section, key, _ in PATHS}
    found = {tuple(key.rsplit(".", 1)) for key, _ in values(Config()) if re.search(r"\.(path|tls_\w+)$", key)}
    assert found == named


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    """Without a name the defaults do; with one there has to be a file."""
    result = CliRunner().invoke(main, ["check-config", "--config", str(tmp_path / "none.toml")])
    assert result.exit_code == 2
    assert "none.toml: No such file" in result.output


def test_what_is_no_ordinary_file_is_refused(tmp_path: Path) -> None:
    """In words, instead of waiting for who writes into a pipe."""
    pipe = tmp_path / "pipe.toml"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path):
        result = CliRunner().invoke(main, ["check-config", "--config", str(path)])
        assert (result.exit_code, result.output) == (2, f"headrace: {path}: is no ordinary file\n")


def test_a_file_without_end_is_refused(tmp_path: Path) -> None:
    """Before it has taken all memory."""
    path = tmp_path / "large.toml"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    result = CliRunner().invoke(main, ["check-config", "--config", str(path)])
    assert (result.exit_code, result.output) == (2, f"headrace: {path}: is larger than 4 MiB\n")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 are said to be no TOML."""
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not TOML"):
        load_config(path)


def test_without_a_file_the_defaults_apply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And config.toml in the working folder is read without being named."""
    monkeypatch.chdir(tmp_path)
    assert load_config(None) == Config()
    (tmp_path / "config.toml").write_text("[ingest]\nport = 1234\n")
    assert load_config(None).ingest.port == 1234


def test_the_file_that_comes_with_it_says_the_defaults() -> None:
    """The comments in config.toml promise that what stands there are the defaults."""
    assert load_config(ROOT / "config.toml") == Config()


def test_a_good_file_is_called_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit status 0, and no warning where there is nothing to warn of."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "good.toml"
    path.write_text(f'[journal]\npath = "{tmp_path}/journal"\nmax_bytes = 16777216\n')
    result = CliRunner().invoke(main, ["check-config", "--config", str(path)])
    assert (result.exit_code, result.output) == (0, f"{path}: good\n")
