"""`trambien key`: the identity of the device.

What is always true here:

- What changes or uses the private key is done by the running service, which has it. Without one it is done here, by the
  same user only, and while nothing else holds the buffer.
- No private key is printed, and none stands in an argument or in the environment.
"""

import json
import os
import pwd
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import typer

from agent import control, failures
from agent.cli.site import Site, load_site
from agent.clock import SystemClock
from agent.errors import AgentError, Exit, NotRunning
from agent.health import Document
from agent.identity import hardware_hash, version
from agent.keeper import Identity, Keeper
from agent.keeper import Site as Told
from agent.machine import forbid_core_dumps
from agent.service import DEFAULT_CONFIG
from buffer.cose import thumbprint
from buffer.custody import Custody, Published, believed, enrol, published
from buffer.errors import BufferFault, BufferLocked
from buffer.keys import DeviceKey, key_path, load, public_pem

app = typer.Typer(help="The device's identity.", no_args_is_help=True)

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")]
_MAX_BLOCK = 56_000


class _OtherUser(AgentError):
    exit = Exit.PERMISSION


class _Refused(AgentError):
    """What the service answered that it could not do."""

    def __init__(self, answer: Document) -> None:
        super().__init__(answer["error"], **answer.get("fields", {}))
        self.exit = Exit(answer.get("exit", Exit.PERMISSION))


@app.callback()
def group() -> None:
    """Show, rotate or certify the device's key."""


@app.command("show")
def show(
    config: ConfigOption = DEFAULT_CONFIG,
    pem: Annotated[bool, typer.Option("--pem", help="Print the public key alone, as PEM.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all that may be known of the key as JSON.")] = False,
) -> None:
    """Show the device's public key and its thumbprint, as a verifier must be given them."""
    site = load_site(config)
    path = key_path(site.buffer)
    known = published(path)
    if known is None:
        raise typer.Exit(failures.tell(AgentError("agent.no-key", path=path), site.words))
    if pem:
        print(public_pem(known.public_key).decode(), end="")
    elif as_json:
        print(json.dumps(_document(site, known), ensure_ascii=False))
    else:
        kid = thumbprint(known.public_key).hex()
        print(site.words.say("agent.key", {"gateway": site.gateway, "kid": kid, "path": path}))
        print(_standing(site, known))
        print(public_pem(known.public_key).decode(), end="")


@app.command("rotate")
def rotate(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Put a new key in the old one's place; the old one signs that it follows, in every stream."""
    site = load_site(config)
    answer = _ordered(site, "key-rotate", lambda path: _rotate(site, path, config))
    print(site.words.say("agent.key-rotated", answer))


@app.command("enrolled")
def enrolled(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Note that the platform knows the present key; ends the alarm after a key was lost."""
    site = load_site(config)
    print(site.words.say("agent.key-enrolled", _ordered(site, "key-enrolled", _enrol)))


@app.command("csr")
def csr(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Print a certificate request (PKCS #10) for the device key, by the gateway's id."""
    site = load_site(config)
    print(_ordered(site, "key-csr", lambda path: _request(site, path))["request"], end="")


def _document(site: Site, known: Published) -> Document:
    return {
        "gateway": site.gateway,
        "kid": thumbprint(known.public_key).hex(),
        "public_key": known.public_key.hex(),
        "pem": public_pem(known.public_key).decode(),
        "path": str(key_path(site.buffer)),
        "enrolled": known.enrolled,
        "statements": [[part.hex() for part in one] for one in known.statements or ()],
    }


def _standing(site: Site, known: Published) -> str:
    if known.statements is None:
        return site.words.say("agent.key-standing-lost", {})
    code = "agent.key-standing-rotated" if known.statements else "agent.key-standing-enrolled"
    return site.words.say(code, {"count": len(known.statements)})


def _ordered(site: Site, order: str, alone: Callable[[Path], Document]) -> Document:
    """Have the service do it, or do it here where there is none; or say why it cannot be done, and end."""
    path = key_path(site.buffer)
    try:
        try:
            answer = control.ask(control.socket_path(site.buffer), order)
        except NotRunning as silent:
            answer = _alone(path, alone, silent)
        if "error" in answer:
            raise _Refused(answer)
    except (AgentError, BufferFault) as error:
        raise typer.Exit(failures.tell(error, site.words)) from None
    return answer


def _alone(path: Path, act: Callable[[Path], Document], silent: NotRunning) -> Document:
    try:
        owner = path.stat().st_uid
    except OSError:
        raise AgentError("agent.no-key", path=path) from None
    if owner != os.geteuid():
        raise _OtherUser("agent.other-user", path=path, owner=_name(owner))
    forbid_core_dumps()
    try:
        return act(path)
    except BufferLocked:
        raise silent from None


def _load(path: Path) -> DeviceKey:
    key = load(path)
    if key is None:
        raise AgentError("agent.no-key", path=path)
    return key


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"#{user}"


def _rotate(site: Site, path: Path, config: Path) -> Document:
    _load(path)
    custody = Custody.open(path)
    digest = sha256(config.read_bytes()).digest()
    identity = Identity(site.gateway, custody.signer, version(), hardware_hash(), digest)
    told = Told(site.buffer, identity, believed(path), {}, _MAX_BLOCK, custody)
    keeper = Keeper(told, SystemClock().moment, lambda: os.urandom(8))
    try:
        keeper.open(())
        keeper.rotate()
    finally:
        keeper.close()
    return {"key": custody.signer.kid.hex()}


def _enrol(path: Path) -> Document:
    key = _load(path)
    enrol(path, key.public_key)
    return {"key": key.kid.hex()}


def _request(site: Site, path: Path) -> Document:
    return {"request": _load(path).certificate_request(site.gateway).decode()}
