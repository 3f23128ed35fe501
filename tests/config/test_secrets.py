"""Secrets: from systemd's credentials, or from a private file beside the configuration."""

import pytest

from config.errors import ConfigFaults
from config.secrets import SIZE_LIMIT, SecretFault, resolve
from tests.config.meter import HEAD, LINKS

WITH = HEAD + LINKS.replace("unit: 3,", "unit: 3, password: !secret plc,")


@pytest.fixture
def secret(tmp_path):
    """Put a secret beside the file."""

    def put(data=b"hunter2\n", mode=0o600):
        file = tmp_path / "secrets" / "plc"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(data)
        file.chmod(mode)

    return put


def test_a_secret_beside_the_file_is_resolved(load_text, secret):
    """One line end belongs to the editor."""
    secret()
    assert load_text(WITH).config.links["bus"].devices["m"].password.value == "hunter2"


def test_systemds_credentials_go_first(load_text, secret, tmp_path):
    """A file beside the configuration is the second place to look."""
    secret()
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    assert load_text(WITH, credentials).config.links["bus"].devices["m"].password.value == "hunter2"
    (credentials / "plc").write_text("from systemd")
    assert load_text(WITH, credentials).config.links["bus"].devices["m"].password.value == "from systemd"


def test_a_secret_in_a_list_is_resolved_too(load_text, secret):
    """Wherever it stands; here it may not, and that is the only fault."""
    secret()
    with pytest.raises(ConfigFaults) as caught:
        load_text(HEAD + LINKS.replace("{holding: 1}", "{holding: 1, limits: [!secret plc]}"))
    assert [fault.code for fault in caught.value.faults] == ["config.secret-not-here"]
    assert "hunter2" not in repr(caught.value.faults)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_secret_that_others_can_get_at_is_refused(secret, tmp_path, mode):
    """Any permission of group or others is too much."""
    secret(mode=mode)
    with pytest.raises(SecretFault) as caught:
        resolve("plc", tmp_path, None)
    assert caught.value.code == "config.secret-open"
    assert caught.value.fields["mode"] == f"{mode:04o}"


@pytest.mark.parametrize("data", [b"", b"\n", b"\xff", b"x" * (SIZE_LIMIT + 1)])
def test_a_secret_that_cannot_be_one_is_a_fault(secret, tmp_path, data):
    """Empty, not text, or far too long."""
    secret(data)
    with pytest.raises(SecretFault) as caught:
        resolve("plc", tmp_path, None)
    assert caught.value.code == "config.secret-unreadable"


def test_a_secret_that_is_a_directory_is_a_fault(tmp_path):
    """Nothing but a file holds a secret."""
    (tmp_path / "secrets" / "plc").mkdir(parents=True, mode=0o700)
    with pytest.raises(SecretFault) as caught:
        resolve("plc", tmp_path, None)
    assert caught.value.code == "config.secret-unreadable"


def test_a_missing_secret_is_a_fault_where_it_is_named(faults_of_text):
    """Position of the `!secret`."""
    assert faults_of_text(WITH) == [("config.secret-missing", 6, 30)]
