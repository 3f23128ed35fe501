"""The device key is made once, kept from others, and replaced without losing what the old one can still prove."""

import copy
import os
import pickle
import shutil
import stat
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from buffer.cose import thumbprint
from buffer.errors import BufferUnreadable, KeyRefused
from buffer.keys import key_path, known_public, load_or_create, load_public, public_pem


@pytest.fixture
def path(tmp_path):
    """Give where the key will be."""
    return tmp_path / "device.key"


def test_the_first_start_makes_a_key_that_nobody_else_reads(path):
    """Mode 0600, and its public half beside it."""
    key, fate = load_or_create(path)
    assert fate == "created"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_public(path.with_name("device.key.pub")) == key.public_key
    assert key.kid == thumbprint(key.public_key)
    assert sorted(p.name for p in path.parent.iterdir()) == ["device.key", "device.key.pub"]


def test_the_key_stands_beside_its_buffer(tmp_path):
    """So that both are kept or lost together."""
    assert key_path(tmp_path / "buffer.db") == tmp_path / "device.key"


def test_the_second_start_loads_the_same_key(path):
    """A device is one device."""
    first, _ = load_or_create(path)
    second, fate = load_or_create(path)
    assert fate == "loaded"
    assert second.public_key == first.public_key


def test_a_lost_public_half_is_written_again(path):
    """It can be made from the key."""
    key, _ = load_or_create(path)
    path.with_name("device.key.pub").unlink()
    load_or_create(path)
    assert known_public(path) == (key.public_key,)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_may_read_is_refused_untouched(path, mode):
    """A person must decide whether it was read."""
    load_or_create(path)
    before = path.read_bytes()
    path.chmod(mode)
    with pytest.raises(KeyRefused) as refused:
        load_or_create(path)
    assert refused.value.fields["mode"] == f"{mode:04o}"
    assert path.read_bytes() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_key_of_another_owner_is_refused(path):
    """Whoever owns it can change it."""
    load_or_create(path)
    os.chown(path, 12345, 12345)
    with pytest.raises(KeyRefused) as refused:
        load_or_create(path)
    assert refused.value.fields["owner"] == 12345


def other_kind():
    """Give a good key of a kind that is not ours."""
    return ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize(
    "content", [b"", b"damaged", other_kind().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())]
)
def test_a_damaged_key_is_set_aside_and_replaced(path, content):
    """Never deleted; and what it signed can still be proven."""
    old, _ = load_or_create(path)
    path.write_bytes(content)
    new, fate = load_or_create(path)
    assert fate == "replaced"
    assert path.with_name("device.key.old-1").read_bytes() == content
    assert known_public(path) == (new.public_key, old.public_key)


def test_the_public_half_of_a_lost_key_is_kept(path):
    """Also where the key was taken away rather than damaged, and more than once."""
    keys = []
    for _ in range(3):
        path.unlink(missing_ok=True)
        keys.append(load_or_create(path)[0].public_key)
    assert known_public(path) == (keys[2], keys[0], keys[1])


def test_nothing_of_the_key_is_shown(path):
    """Neither in its repr nor in an error."""
    key, _ = load_or_create(path)
    assert repr(key) == f"DeviceKey({key.kid.hex()[:16]})"


def test_a_public_key_of_another_kind_is_refused(tmp_path):
    """And so is no key, and noise."""
    path = tmp_path / "x.pub"
    with pytest.raises(BufferUnreadable):
        load_public(path)
    for content in (b"noise", other_kind().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)):
        path.write_bytes(content)
        with pytest.raises(BufferUnreadable):
            load_public(path)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    """No traceback of the operating system's."""
    with pytest.raises(BufferUnreadable) as unreadable:
        load_or_create(tmp_path / "missing" / "device.key")
    assert str(unreadable.value).startswith("buffer.unreadable path=")


def test_a_public_key_is_the_same_as_pem(path):
    """What `key show` prints is what is in the file."""
    key, _ = load_or_create(path)
    assert public_pem(key.public_key) == path.with_name("device.key.pub").read_bytes()


def test_a_key_is_not_pickled_or_copied(path):
    """Whatever hands its object around must not write it down."""
    key, _ = load_or_create(path)
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            leak(key)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_a_certificate_request_is_read_by_openssl(path, tmp_path):
    """Its signature, its name and its public key; it holds no private half."""
    key, _ = load_or_create(path)
    request = tmp_path / "request.pem"
    request.write_bytes(key.certificate_request("qng-dungquat-0012"))
    command = ["openssl", "req", "-in", request, "-noout", "-verify", "-subject", "-pubkey", "-text"]
    judged = subprocess.run(command, capture_output=True, text=True, check=True)
    said = judged.stdout + judged.stderr
    assert "verify OK" in said
    assert "qng-dungquat-0012" in said
    assert "ED25519" in said.upper()
    assert public_pem(key.public_key).decode() in said
    assert "PRIVATE" not in request.read_text()
