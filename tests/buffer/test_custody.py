"""The custody of the device key: one key in force, an alarm where the platform cannot know it, nothing used twice."""

import os
import stat

import pytest
from chains import key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from buffer.cose import thumbprint
from buffer.custody import Custody, believed, enrol, published
from buffer.errors import BufferUnreadable, CredentialRefused, EnrolFirst, KeyFixed, KeyRefused
from buffer.rotation import MAX_STATEMENTS, read_statement


@pytest.fixture
def path(tmp_path):
    """Give where the key will be."""
    return tmp_path / "device.key"


def rotate(custody):
    """Do what a keeper does, the commit aside."""
    statement = custody.begin("station-1")
    custody.switch("station-1")
    return statement


def restore(path, content):
    """Bring an old copy of the key back."""
    path.write_bytes(content)
    path.chmod(0o600)


def test_the_first_key_is_enrolled_by_itself(path):
    """It is noted at commissioning; also where it was made before the first start."""
    first = Custody.open(path)
    assert (first.fate, first.enrolled, first.statements, first.pending) == ("created", True, (), None)
    path.with_name("device.key.enrolled").unlink()
    assert Custody.open(path).enrolled
    assert published(path) == (first.signer.public_key, ())
    assert published(path).enrolled


def test_a_rotated_key_is_enrolled_through_its_statements(path):
    """Each leads from the one before; the last key is in force at the next start."""
    custody = Custody.open(path)
    keys = [custody.signer.public_key]
    for _ in range(3):
        rotate(custody)
        keys.append(custody.signer.public_key)
    again = Custody.open(path)
    assert again.signer.public_key == keys[3]
    told = [read_statement(one) for one in again.statements]
    assert [(one.old, one.new, one.counter) for one in told] == list(zip(keys, keys[1:], (1, 2, 3), strict=False))
    assert set(believed(path)) == set(keys)
    assert published(path).statements == again.statements
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_enrolled_key_needs_no_statements_from_before(path):
    """They are kept, so that a retired key stays retired."""
    custody = Custody.open(path)
    rotate(custody)
    enrol(path, custody.signer.public_key)
    assert custody.statements == ()
    rotate(custody)
    assert [read_statement(one).counter for one in custody.statements] == [2]


@pytest.mark.parametrize("harm", ["damaged", "missing"])
def test_a_lost_key_raises_an_alarm_until_the_new_one_is_enrolled(path, harm):
    """At every start."""
    lost = Custody.open(path).signer
    if harm == "damaged":
        path.write_bytes(b"no key at all")
    else:
        path.unlink()
    custody = Custody.open(path)
    assert (custody.fate, custody.enrolled, custody.statements) == ("replaced", False, ())
    assert not Custody.open(path).enrolled
    assert not published(path).enrolled
    assert believed(path) == (custody.signer.public_key, lost.public_key)
    custody.enrol()
    assert Custody.open(path).enrolled


@pytest.mark.parametrize("harm", [b"", b"zz\n", b"\xff"])
def test_a_damaged_note_of_the_enrolled_key_is_an_alarm_too(path, harm):
    """It is not guessed which key the platform knows."""
    custody = Custody.open(path)
    rotate(custody)
    path.with_name("device.key.enrolled").write_bytes(harm)
    assert not Custody.open(path).enrolled


@pytest.mark.parametrize("harm", [b"", b"\x80", b"\x81\x01", b"\x81\x82\x41a\x41b", b"\xa0"])
def test_damaged_statements_lead_nowhere(path, harm):
    """The chain in the buffer still has them; the alarm says that the platform must be asked."""
    custody = Custody.open(path)
    rotate(custody)
    path.with_name("device.key.statements").write_bytes(harm)
    again = Custody.open(path)
    assert (again.enrolled, again.fate) == (False, "loaded")


def test_a_retired_key_that_a_restored_copy_brings_back_is_not_used(path):
    """What it signed now would be a fault; it is set aside, and a new one raises the alarm."""
    custody = Custody.open(path)
    old = path.read_bytes()
    rotate(custody)
    restore(path, old)
    again = Custody.open(path)
    assert (again.fate, again.enrolled) == ("replaced", False)
    assert again.signer.public_key not in (custody.signer.public_key, key().public_key)
    assert [name for name in path.parent.iterdir() if name.read_bytes() == old]


def test_a_lost_key_that_a_copy_brings_back_ends_the_alarm(path):
    """It was never retired, and it is the one that the platform knows."""
    Custody.open(path)
    copy = path.read_bytes()
    path.unlink()
    Custody.open(path)
    restore(path, copy)
    again = Custody.open(path)
    assert again.enrolled


def test_the_next_key_is_durable_before_it_is_in_force(path):
    """0600, and believed already: a commit may have come through."""
    custody = Custody.open(path)
    custody.begin("station-1")
    following = path.with_name("device.key.next")
    assert stat.S_IMODE(following.stat().st_mode) == 0o600
    again = Custody.open(path)
    assert again.pending == custody.pending
    assert again.pending in map(thumbprint, believed(path))
    again.undo()
    assert again.pending is None
    assert not following.exists()
    assert Custody.open(path).pending is None


def test_a_rotation_that_was_noted_is_ended_by_the_next_start(path, monkeypatch):
    """The statement is noted after its commit only."""
    custody = Custody.open(path)
    custody.begin("station-1")

    def broken(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("buffer.custody.take_place", broken)
    with pytest.raises(BufferUnreadable):
        custody.switch("station-1")
    monkeypatch.undo()
    assert path.with_name("device.key.next").exists()
    again = Custody.open(path)
    assert again.signer.kid == custody.signer.kid
    assert (again.fate, again.enrolled, len(again.statements)) == ("loaded", True, 1)
    assert not path.with_name("device.key.next").exists()


def test_a_statement_is_noted_once(path):
    """A start that ends what another began finds it there."""
    custody = Custody.open(path)
    custody.begin("station-1")
    other = Custody.open(path)
    custody.switch("station-1")
    with pytest.raises(BufferUnreadable):
        other.switch("station-1")  # the next key has gone to its place already
    assert other.signer.kid == custody.signer.kid
    assert len(Custody.open(path).statements) == 1


def test_a_second_rotation_waits_for_the_end_of_the_first(path):
    """Else the key in force would be overwritten."""
    custody = Custody.open(path)
    custody.begin("station-1")
    with pytest.raises(BufferUnreadable):
        custody.begin("station-1")


def test_the_next_key_of_a_lost_one_is_forgotten(path):
    """Nobody can sign that it follows."""
    Custody.open(path).begin("station-1")
    path.unlink()
    custody = Custody.open(path)
    assert (custody.fate, custody.pending) == ("replaced", None)
    assert not path.with_name("device.key.next").exists()


def test_a_next_key_that_others_may_read_stops_the_start(path):
    """As the key itself does."""
    Custody.open(path).begin("station-1")
    path.with_name("device.key.next").chmod(0o644)
    with pytest.raises(KeyRefused):
        Custody.open(path)


def test_what_a_kill_left_half_written_is_removed(path):
    """It is a private key that nobody uses."""
    Custody.open(path)
    for name in ("device.key.new", "device.key.next.new"):
        path.with_name(name).write_bytes(b"half a key")
    Custody.open(path)
    assert not list(path.parent.glob("*.new"))


def test_beyond_the_bound_the_present_key_must_be_enrolled_first(path):
    """A `start` event carries all statements since."""
    custody = Custody.open(path)
    for _ in range(MAX_STATEMENTS):
        rotate(custody)
    with pytest.raises(EnrolFirst):
        custody.begin("station-1")
    assert len(custody.statements) == MAX_STATEMENTS
    custody.enrol()
    rotate(custody)
    assert len(custody.statements) == 1


def credential(tmp_path, number=5, mode=0o400):
    """Give a key as systemd would."""
    given = tmp_path / "credentials" / "device.key"
    given.parent.mkdir(exist_ok=True)
    given.unlink(missing_ok=True)
    pem = key(number)._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    given.write_bytes(pem)
    given.chmod(mode)
    return given


@pytest.mark.parametrize("mode", [0o400, 0o440])
def test_a_credential_is_used_and_not_written_down(path, tmp_path, mode):
    """By owner or by access list; only its public half stands beside the buffer."""
    given = credential(tmp_path, mode=mode)
    custody = Custody.open(path, given)
    assert custody.signer.public_key == key(5).public_key
    assert custody.enrolled
    assert not path.exists()
    assert believed(path) == (key(5).public_key,)
    with pytest.raises(KeyFixed):
        custody.begin("station-1")
    assert Custody.open(path, given).fate == "loaded"


def test_without_a_credential_the_file_is_used(path, tmp_path):
    """The directory may hold other secrets only."""
    assert Custody.open(path, tmp_path / "none" / "device.key").fate == "created"


def test_another_credential_is_a_lost_key(path, tmp_path):
    """No statement leads to it: the platform must be told."""
    Custody.open(path, credential(tmp_path))
    custody = Custody.open(path, credential(tmp_path, 6))
    assert (custody.fate, custody.enrolled) == ("replaced", False)
    assert set(believed(path)) == {key(5).public_key, key(6).public_key}


def test_a_credential_that_cannot_be_read_is_named(path, tmp_path):
    """It, and not the file beside the buffer that it stands for."""
    given = tmp_path / "credentials"
    given.mkdir(mode=0o500)
    with pytest.raises(BufferUnreadable) as refused:
        Custody.open(path, given)
    assert refused.value.fields["path"] == str(given)


@pytest.mark.parametrize("harm", ["mode", "content", "owner"])
def test_a_credential_that_cannot_be_used_stops_the_start(path, tmp_path, harm):
    """It cannot be replaced, and a person must mend it; its content is not told."""
    given = credential(tmp_path, mode=0o444 if harm == "mode" else 0o600)
    if harm == "content":
        given.write_bytes(b"secret noise")
    if harm == "owner":
        if os.geteuid() != 0:
            pytest.skip("only root can give a file away")
        os.chown(given, 12345, 12345)
    with pytest.raises(CredentialRefused) as refused:
        Custody.open(path, given)
    assert "secret" not in str(refused.value)


def test_a_retired_key_is_refused_as_a_credential(path, tmp_path):
    """Somebody put an old copy there."""
    custody = Custody.open(path)
    given = credential(tmp_path)
    given.chmod(0o600)
    given.write_bytes(path.read_bytes())
    rotate(custody)
    with pytest.raises(CredentialRefused) as refused:
        Custody.open(path, given)
    assert refused.value.fields["reason"] == "retired"


def test_where_there_is_no_key_nothing_is_published(path):
    """Also where its public half is damaged."""
    assert published(path) is None
    assert believed(path) == ()
    path.with_name("device.key.pub").write_bytes(b"noise")
    assert published(path) is None


def test_a_folder_that_is_not_there_is_named(tmp_path):
    """No traceback of the operating system's."""
    with pytest.raises(BufferUnreadable):
        Custody.open(tmp_path / "missing" / "device.key")


def test_a_key_made_beside_history_is_not_the_first_one(tmp_path):
    """Where all key files are gone and the buffer is not, the alarm stands, after a restart too."""
    path = tmp_path / "device.key"
    assert not Custody.open(path, history=True).enrolled
    again = Custody.open(path, history=True)
    assert (again.fate, again.enrolled) == ("loaded", False)
    again.enrol()
    assert Custody.open(path, history=True).enrolled


def test_the_first_key_stays_enrolled_when_there_is_history(tmp_path):
    """A damaged buffer alone says nothing against the key."""
    path = tmp_path / "device.key"
    assert Custody.open(path).enrolled
    assert Custody.open(path, history=True).enrolled
