"""`headrace cert`: what it makes is what TLS wants, for what it is for and nothing else."""

import shutil
import ssl
import stat
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from headrace.cli import main


def call(*words: str | Path) -> Result:
    """`headrace cert ...`."""
    return CliRunner().invoke(main, ["cert", *map(str, words)])


def good(*words: str | Path) -> str:
    """What it says when it works."""
    result = call(*words)
    assert result.exit_code == 0, result.output
    return result.stdout


def read(path: Path) -> x509.Certificate:
    """A certificate."""
    return x509.load_pem_x509_certificate(path.read_bytes())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With an authority in it."""
    good("ca", tmp_path / "certs")
    return tmp_path / "certs"


def test_an_authority_may_sign_and_nothing_else(folder: Path) -> None:
    """For ten years, with a random number, and only for certificates that sign no others."""
    ca = read(folder / "ca.pem")
    constraints = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    usage = ca.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.digital_signature) == (True, False)
    assert 3649 <= (ca.not_valid_after_utc - ca.not_valid_before_utc).days <= 3652
    assert ca.serial_number.bit_length() > 64
    key = ca.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"


def test_a_server_has_its_names_and_a_machine_its_identity(folder: Path) -> None:
    """Each for its end of a connection."""
    assert "server gate.plant, 192.168.7.5, until" in good("server", folder, "gate.plant", "192.168.7.5")
    assert "machine E0002, until" in good("device", folder, "E0001", "E0002", "--days", "30")
    server, device = read(folder / "gate.plant.pem"), read(folder / "E0001.pem")
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["gate.plant"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["192.168.7.5"]
    own = device.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert own.get_values_for_type(x509.DNSName) == ["E0001"]
    assert (device.not_valid_after_utc - device.not_valid_before_utc).days == 31
    for made, purpose in (
        (server, ExtendedKeyUsageOID.SERVER_AUTH),
        (device, ExtendedKeyUsageOID.CLIENT_AUTH),
    ):
        uses = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(uses) == [purpose]
        assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert len({read(path).serial_number for path in folder.glob("*.pem")}) == 4


def test_keys_belong_to_their_owner_alone(folder: Path) -> None:
    good("server", folder, "localhost")
    good("device", folder, "E0001")
    keys = sorted(folder.glob("*.key"))
    assert [key.name for key in keys] == ["E0001.key", "ca.key", "localhost.key"]
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is missing")
def test_openssl_agrees(folder: Path) -> None:
    """Strictly, each for its purpose and not for the other one."""
    good("server", folder, "localhost")
    good("device", folder, "E0001")
    for name, purpose, right in (
        ("localhost", "sslserver", True),
        ("localhost", "sslclient", False),
        ("E0001", "sslclient", True),
        ("E0001", "sslserver", False),
    ):
        files = [str(folder / "ca.pem"), str(folder / f"{name}.pem")]
        verify = ["verify", "-x509_strict", "-purpose", purpose, "-CAfile", *files]
        found = subprocess.run(
            [str(shutil.which("openssl")), *verify],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (found.returncode == 0) is right, found.stderr


def test_python_takes_each_key_with_its_certificate(folder: Path) -> None:
    good("device", folder, "E0001", "press 7/b")
    for name in ("E0001", "press 7%2Fb", "ca"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
        context.load_verify_locations(folder / "ca.pem")


def test_nothing_is_overwritten_unless_that_is_asked_for(folder: Path) -> None:
    good("device", folder, "E0001")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for words in (("ca", folder), ("device", folder, "E0001"), ("device", folder, "ca")):
        result = call(*words)
        assert result.exit_code == 2
        assert "--force overwrites" in result.stderr or "authority's own" in result.stderr
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    good("device", folder, "E0001", "--force")
    assert (folder / "E0001.key").read_bytes() != before[folder / "E0001.key"]
    assert stat.S_IMODE((folder / "E0001.key").stat().st_mode) == 0o600


def revoked(folder: Path) -> list[int]:
    """Numbers on the list, in the order in which they came there."""
    found = x509.load_pem_x509_crl((folder / "ca.crl").read_bytes())
    return [entry.serial_number for entry in found]


def test_the_list_of_revoked_certificates_begins_empty_and_only_grows(folder: Path) -> None:
    """Each is there once, as long as the authority lives; another certificate of that name is not."""
    assert revoked(folder) == []
    good("device", folder, "E0001", "press 7/b")
    first, second = read(folder / "E0001.pem"), read(folder / "press 7%2Fb.pem")
    assert "1 revoked, good until" in good("revoke", folder, "press 7/b")
    assert "2 revoked, good until" in good("revoke", folder, "E0001", "press 7/b")
    assert revoked(folder) == [second.serial_number, first.serial_number]
    good("device", folder, "E0001", "--force")
    assert "3 revoked" in good("revoke", folder, "E0001")
    found = x509.load_pem_x509_crl((folder / "ca.crl").read_bytes())
    assert found.next_update_utc == read(folder / "ca.pem").not_valid_after_utc
    assert found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 4


def test_an_authority_without_a_list_gets_one(folder: Path) -> None:
    """One from before there were lists; if there was another list, somebody should look for it."""
    good("device", folder, "E0001")
    assert "begins anew" not in call("revoke", folder, "E0001").stderr
    (folder / "ca.crl").unlink()
    result = call("revoke", folder, "E0001")
    assert "1 revoked" in result.stdout
    assert "was not there and begins anew" in result.stderr


def test_only_certificates_of_the_authority_are_revoked(folder: Path, tmp_path: Path) -> None:
    """What is wrong is said, and nothing is changed: not those either that were named with it."""
    good("device", folder, "E0001")
    good("ca", tmp_path / "other")
    good("device", tmp_path / "other", "E0002")
    shutil.copy(tmp_path / "other" / "E0002.pem", folder)
    (folder / "E0003.pem").write_text("nonsense")
    for name, said in {
        "E0002": "is no certificate of this authority",
        "E0003": "is no certificate of this authority",
        "E0004": "No such file",
        "ca": "can't be on its list",
    }.items():
        result = call("revoke", folder, "E0001", name)
        assert (result.exit_code, said in result.stderr) == (2, True), result.stderr
    assert revoked(folder) == []
    shutil.copy(tmp_path / "other" / "ca.crl", folder)
    assert "is the list of another authority" in call("revoke", folder, "E0001").stderr
    (folder / "ca.crl").write_text("nonsense")
    assert "can't be read; nothing was changed" in call("revoke", folder, "E0001").stderr


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is missing")
def test_openssl_refuses_what_is_revoked(folder: Path) -> None:
    good("device", folder, "E0001", "E0002")
    good("revoke", folder, "E0001")
    for name, right in (("E0001", False), ("E0002", True)):
        files = ["-CAfile", folder / "ca.pem", "-CRLfile", folder / "ca.crl", folder / f"{name}.pem"]
        command = [str(shutil.which("openssl")), "verify", "-x509_strict", "-crl_check", *map(str, files)]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (found.returncode == 0) is right, found.stderr


def test_no_certificate_outlives_its_authority(tmp_path: Path) -> None:
    good("ca", tmp_path, "--days", "10")
    good("device", tmp_path, "E0001")
    assert read(tmp_path / "E0001.pem").not_valid_after_utc == read(tmp_path / "ca.pem").not_valid_after_utc


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("device", "{}/nowhere", "E0001"), "headrace cert ca makes an authority"),
        (("device", "{}", ""), "1 to 64 printable"),
        (("device", "{}", "Fräse"), "1 to 64 printable"),
        (("device", "{}", "x" * 65), "1 to 64 printable"),
        (("server", "{}", "gate..plant"), "neither a host's name nor an address"),
        (("server", "{}", "a b"), "neither a host's name nor an address"),
        (("ca", "{}/other", "--name", ""), "1 to 64 characters"),
    ],
)
def test_what_is_wrong_is_said(folder: Path, words: tuple[str, ...], said: str) -> None:
    """In one line, with exit status 2, and nothing is made."""
    before = sorted(folder.rglob("*"))
    result = call(*(word.format(folder) for word in words))
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("before", ["", "b."])
def test_a_name_that_is_too_long_for_a_file_is_said(folder: Path, before: str) -> None:
    """As that of a host may be, with 251 bytes or 253; nothing is made."""
    files = sorted(folder.iterdir())
    result = call("server", folder, before + ".".join(["a" * 62] * 4))
    assert result.exit_code == 1
    assert result.stderr.endswith(": File name too long\n")
    assert result.stderr.count("\n") == 1
    assert sorted(folder.iterdir()) == files


def test_the_authoritys_key_has_to_fit(folder: Path, tmp_path: Path) -> None:
    """Another one's key signs nothing in its name."""
    good("ca", tmp_path / "other")
    shutil.copy(tmp_path / "other" / "ca.key", folder / "ca.key")
    assert "is not the key of ca.pem" in call("device", folder, "E0001").stderr
    (folder / "ca.key").write_text("nonsense")
    assert "can't be read" in call("device", folder, "E0001").stderr
