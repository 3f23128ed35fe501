"""What the station installs exists for Arm: pure, or native and known to have a wheel there, or given by Debian."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

ARM_WHEELS = {
    "cryptography": "aarch64 (glibc 2.28) and armv7l (glibc 2.31), for any CPython from 3.11 on",
    "markupsafe": "aarch64 and armv7l (glibc 2.17), for 3.11 and 3.13",
    "pydantic-core": "aarch64 and armv7l (glibc 2.17), for 3.11 and 3.13",
}
"""Native, with wheels for both at the pinned versions. A new one is looked up for both before it is entered here."""

DEBIAN_GIVES = {
    "cffi": "aarch64 only; python3-cffi-backend is all that cryptography needs of it at run time",
    "pycparser": "pure; cffi needs it to compile, which nothing does here",
    "zstandard": "aarch64 only; python3-zstandard",
}
"""Not in requirements-armhf.txt: what README takes from Debian there."""

LISTS = ("requirements.txt", "requirements-armhf.txt", "requirements-build.txt", "requirements-dev.txt")


def pinned(name: str) -> dict[str, str]:
    """Give each requirement of a file, with its hashes, under its name."""
    entries = re.split(r"(?m)^(?=[a-z])", (ROOT / name).read_text())
    return {entry.split("==")[0]: entry for entry in entries if entry}


def is_pure(name: str) -> bool:
    """Tell whether what is installed here came as a wheel for any machine."""
    wheel = distribution(name).read_text("WHEEL") or ""
    return set(re.findall(r"(?m)^Tag: .*-(.*)$", wheel)) == {"any"}


def test_what_is_native_is_known_to_exist_on_arm() -> None:
    """A new native dependency fails here, until its wheels were looked up."""
    native = set()
    for name, entry in pinned("requirements-armhf.txt").items():
        try:
            native |= set() if is_pure(name) else {name}
        except PackageNotFoundError:
            assert ";" in entry.splitlines()[0], f"{name} is pinned for every machine and not installed"
    assert native == ARM_WHEELS.keys()


def test_the_list_for_32_bit_arm_is_the_whole_one_without_what_debian_gives() -> None:
    """As `make lock` writes it, versions and hashes included."""
    whole, armhf = pinned("requirements.txt"), pinned("requirements-armhf.txt")
    assert armhf == {name: entry for name, entry in whole.items() if name not in DEBIAN_GIVES}
    assert DEBIAN_GIVES.keys() <= whole.keys()


@pytest.mark.parametrize("name", LISTS)
def test_every_pin_has_hashes_and_no_place(name: str) -> None:
    """A file that names a registry would be wrong at the next network."""
    for entry in pinned(name).values():
        assert "--hash=sha256:" in entry
    assert "://" not in (ROOT / name).read_text()


def test_what_the_station_needs_is_pinned_for_it() -> None:
    """Each dependency of pyproject.toml stands in requirements.txt, and the tests' alone do not."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    plain = {re.split(r"[^A-Za-z0-9_.-]", need)[0].replace(".", "-") for need in project["project"]["dependencies"]}
    assert plain <= pinned("requirements.txt").keys()
    assert "cbor2" not in pinned("requirements.txt")
    assert pinned("requirements.txt").keys() < pinned("requirements-dev.txt").keys()


def test_what_makes_the_package_is_pinned_too_and_pure() -> None:
    """The station resolves nothing: what pyproject.toml builds with, and what that needs, as pinned for us."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = [*project["build-system"]["requires"], *(distribution("hatchling").requires or ())]
    needed = {re.split(r"[^A-Za-z0-9_.-]", need)[0] for need in asked if "python_version < '3.11'" not in need}
    build, whole = pinned("requirements-build.txt"), pinned("requirements-dev.txt")
    assert build == {name: whole[name] for name in needed}
    assert all(is_pure(name) for name in needed)
