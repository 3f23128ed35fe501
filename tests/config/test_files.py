"""Files that the technician's file names: found beside it, looked at when it is judged, whatever driver names them."""

from dataclasses import dataclass

import pytest

from config.files import FilePath, ReadableFile
from config.judge import Unsound, judged
from config.shape import Strict
from drivers.opcua.settings import Security


@dataclass(frozen=True, slots=True, kw_only=True)
class Named(Strict):
    """A part with both kinds of path."""

    made: FilePath = "here.db"
    read: ReadableFile | None = None


def codes(model, value, folder):
    """Give what is wrong with the files of a part."""
    with pytest.raises(Unsound) as caught:
        judged(model, value, folder)
    return [finding.kind for finding in caught.value.findings]


def test_a_path_is_relative_to_the_folder_of_the_file(tmp_path):
    """An absolute one stays, and without a folder each stays as written."""
    (tmp_path / "a.pem").write_text("")
    named = judged(Named, {"made": "x/b.db", "read": "a.pem"}, tmp_path)
    assert (named.made, named.read) == (str(tmp_path / "x/b.db"), str(tmp_path / "a.pem"))
    assert judged(Named, {"made": "/x/b.db"}, tmp_path).made == "/x/b.db"
    assert judged(Named, {"made": "x/b.db", "read": "none.pem"}).read == "none.pem"


def test_a_file_that_cannot_be_read_is_a_fault(tmp_path):
    """Missing, or a folder."""
    assert codes(Named, {"read": "none.pem"}, tmp_path) == ["config.file-missing"]
    assert codes(Named, {"read": "."}, tmp_path) == ["config.file-unreadable"]


def test_the_certificates_of_an_opc_ua_link_are_found_beside_the_file_too(tmp_path):
    """As those of an uplink and of Modbus."""
    for name in ("own.der", "own.pem"):
        (tmp_path / name).write_text("")
    written = {"policy": "Basic256Sha256", "certificate": "own.der", "key": "own.pem"}
    security = judged(Security, written, tmp_path)
    assert (security.certificate, security.key) == (str(tmp_path / "own.der"), str(tmp_path / "own.pem"))
    assert codes(Security, {**written, "key": "none.pem"}, tmp_path) == ["config.file-missing"]
