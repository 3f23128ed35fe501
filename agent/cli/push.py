"""`trambien push`: the operator's side of a configuration push, on a machine of his own.

What is always true here:

- A key is made in a file of mode 0600, never overwritten. What is signed is shown as a diff before.
- `send` ends with 0 only if every gateway confirmed.
"""

import asyncio
import difflib
import json
import os
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import typer

from agent import durable, failures
from agent.broker import Endpoint, split_url
from agent.campaign import Campaign
from agent.errors import AgentError, Exit
from agent.rollout import Rollout, waves
from agent.words import Words, environment_language
from buffer.errors import BufferUnreadable
from buffer.keys import load_or_create, load_public
from config import push as pushes
from config import trust_file
from config.push import Envelope, Push, Rejected, encode, shown, signed
from config.raw import digest_of
from config.trust import FILE_NAME, TrustInvalid

app = typer.Typer(help="The operator's side of a configuration push.", no_args_is_help=True)

VALID_S = 7 * 86_400
BEYOND_PROBATION_S = 120.0

KeyFile = Annotated[Path, typer.Option("--key", help="The operator's private key.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="The envelope to write.")]
Gateways = Annotated[list[str], typer.Option("--gateway", "-g", help="A gateway's id; may be repeated.")]
Broker = Annotated[str, typer.Option("--broker", help="mqtts://host:port")]
Ca = Annotated[Path | None, typer.Option(help="The broker's certificate authority.")]
Cert = Annotated[Path | None, typer.Option(help="The operator's certificate.")]
Tls = Annotated[Path | None, typer.Option("--tls-key", help="Its key.")]
Prefix = Annotated[str, typer.Option(help="The topics' prefix.")]
Within = Annotated[float | None, typer.Option(help="Seconds to wait for each wave; else probation and two minutes.")]


def _words() -> Words:
    return Words(environment_language(os.environ))


def _bytes(path: Path) -> bytes:
    """Read a file that the operator names; where it cannot be read, say so and leave."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise typer.Exit(failures.tell(BufferUnreadable(path=str(path), reason=error.strerror), _words())) from None


@app.command("keygen")
def keygen(file: Annotated[Path, typer.Argument(help="The private key to make; FILE.pub is its public half.")]) -> None:
    """Make an operator's key."""
    if file.exists():
        raise typer.Exit(failures.tell(AgentError("agent.exists", file=file), _words()))
    key, _ = load_or_create(file)
    print(key.public_key.hex())


@app.command("trust")
def trust(
    keys: Annotated[list[Path], typer.Argument(help="Public keys (*.pub), or trust.json alone to check it.")],
    fleet: Annotated[str, typer.Option(help="The fleet's name.")] = "fleet",
    threshold: Annotated[int, typer.Option(min=1, max=8, help="For critical settings and trust.")] = 2,
    out: Annotated[Path, typer.Option("--out", "-o", help="The document to write.")] = Path(FILE_NAME),
) -> None:
    """Make the first trust document from public keys, or check one."""
    try:
        if len(keys) == 1 and keys[0].suffix == ".json":
            print(trust_file.read(keys[0].read_bytes()).digest.hex())
            return
        document = _document(keys, fleet, min(threshold, len(keys)))
        data = json.dumps(document, indent=2).encode() + b"\n"
        digest = trust_file.read(data).digest.hex()
    except (TrustInvalid, OSError) as error:
        raise typer.Exit(failures.tell(AgentError("push.trust-invalid", detail=error), _words())) from None
    except failures.Mendable as error:
        raise typer.Exit(failures.tell(error, _words())) from None
    durable.write(out, data, 0o644)
    print(digest)


def _document(keys: list[Path], fleet: str, threshold: int) -> dict[str, object]:
    names = {path.name.split(".")[0].lower(): load_public(path).hex() for path in keys}
    role = {"keys": list(names), "threshold": threshold}
    return {
        "format": 1,
        "fleet": fleet,
        "version": 1,
        "epoch": 1,
        "keys": {name: {"type": "Ed25519", "public": public} for name, public in names.items()},
        "roles": {"config": {**role, "threshold": 1}, "critical": role, "trust": role},
    }


@app.command("sign")
def sign(
    key: KeyFile,
    out: Out,
    new: Annotated[Path | None, typer.Argument(help="The configuration to send, or a trust document (*.json).")] = None,
    base: Annotated[
        Path | None, typer.Option(help="The file that stands at the gateways now, its links.d beside it.")
    ] = None,
    gateway: Gateways = [],  # noqa: B006 - typer takes a list
    group: Annotated[list[str], typer.Option("--group", help="A group of the trust document.")] = [],  # noqa: B006
    platform: Annotated[str, typer.Option(help="The name of the uplink in the gateways' file.")] = "",
    version: Annotated[int, typer.Option(min=1, help="Higher than any before.")] = 1,
    epoch: Annotated[int, typer.Option(min=1, help="The trust document's.")] = 1,
    probation: Annotated[int, typer.Option(min=10, max=3600, help="Seconds.")] = 300,
    valid: Annotated[int, typer.Option(min=60, help="Seconds until it expires.")] = VALID_S,
    back_from: Annotated[int | None, typer.Option(help="Go back: the highest version sent so far.")] = None,
    add: Annotated[Path | None, typer.Option(help="An envelope that another operator signed: sign that.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Show what would change, and sign it."""
    words = _words()
    if add is not None:
        envelope, before = _opened(add, words), _bytes(base) if base else b""
    elif new is not None and new.suffix == ".json":
        envelope, before = Envelope(pushes.TRUST, _bytes(new), ()), _bytes(base) if base else b""
    elif new is not None and base is not None:
        before, now_s = _bytes(base), int(time.time())
        digest = digest_of(base) or sha256(before).digest()
        made = (tuple(gateway), tuple(group), platform, epoch, version, now_s, now_s + valid, digest, probation)
        envelope = Envelope(pushes.CONFIG, encode(Push(*made, _bytes(new), back_from)), ())
    else:
        raise typer.BadParameter("NEW with --base, or --add")
    _show(envelope, before, words)
    if not yes:
        typer.confirm(words.say("agent.push-sign", {}), abort=True)
    try:
        signer, _ = load_or_create(key) if key.exists() else (None, None)
    except failures.Mendable as error:
        raise typer.Exit(failures.tell(error, words)) from None
    if signer is None:
        raise typer.Exit(failures.tell(AgentError("agent.no-key", path=key), words))
    durable.write(out, signed(envelope, signer.kid, signer.sign).encode(), 0o644)
    print(envelope.digest.hex())


def _opened(path: Path, words: Words) -> Envelope:
    found = shown(_bytes(path))
    if isinstance(found, Rejected):
        raise typer.Exit(failures.tell(AgentError(found.code), words))
    return found[0]


def _show(envelope: Envelope, before: bytes, words: Words) -> None:
    """Print what is to be signed: for whom, and line by line what changes."""
    content = envelope.content
    found = shown(Envelope(envelope.typ, content, (b"unsigned",)).encode())
    if isinstance(found, Rejected):
        raise typer.Exit(failures.tell(AgentError(found.code), words))
    push = found[1]
    if push is not None:
        facts = {"gateways": ", ".join((*push.gateways, *push.groups)), "version": push.version, "epoch": push.epoch}
        print(words.say("agent.push-for", {**facts, "platform": push.platform, "probation": push.probation_s}))
        content = push.configuration
    old, new = (data.decode("utf-8", "replace").splitlines() for data in (before, content))
    print("\n".join(difflib.unified_diff(old, new, "before", "after", lineterm="")))


@app.command("send")
def send(
    envelope: Annotated[Path, typer.Argument(help="What `sign` wrote.")],
    gateway: Gateways,
    broker: Broker,
    ca: Ca = None,
    cert: Cert = None,
    tls_key: Tls = None,
    prefix: Prefix = "trambien/v1",
    canary: Annotated[int, typer.Option(min=0, help="So many gateways go first.")] = 1,
    percent: Annotated[list[int], typer.Option(min=1, max=100, help="Then up to so many percent.")] = [10, 50],  # noqa: B006
    most_failed: Annotated[int, typer.Option(min=0, max=100, help="Stop above so many percent failed.")] = 5,
    within: Within = None,
) -> None:
    """Send it, a few gateways first, and stop where too many fail."""
    plan = tuple(waves(gateway, canary, sorted(percent)))
    _carry_out(envelope, _endpoint(broker, ca, cert, tls_key), prefix, Rollout(plan, most_failed), within)


@app.command("watch")
def watch(
    envelope: Annotated[Path, typer.Argument(help="What `sign` wrote.")],
    gateway: Gateways,
    broker: Broker,
    ca: Ca = None,
    cert: Cert = None,
    tls_key: Tls = None,
    prefix: Prefix = "trambien/v1",
    within: Within = None,
) -> None:
    """Hear what becomes of what was sent."""
    _carry_out(envelope, _endpoint(broker, ca, cert, tls_key), prefix, tuple(gateway), within)


def _endpoint(broker: str, ca: Path | None, cert: Path | None, tls_key: Path | None) -> Endpoint:
    try:
        _, host, port = split_url(broker)
    except (ValueError, KeyError):
        raise typer.BadParameter("mqtts://host:port", param_hint="--broker") from None
    ca_file, cert_file, key_file = (str(path) if path else None for path in (ca, cert, tls_key))
    return Endpoint(host, port, f"operator-{time.time_ns():x}", ca_file, cert_file, key_file)


def _carry_out(
    path: Path, endpoint: Endpoint, prefix: str, what: Rollout | tuple[str, ...], within: float | None
) -> None:
    words = _words()
    data = _bytes(path)
    found = shown(data)
    if isinstance(found, Rejected):
        raise typer.Exit(failures.tell(AgentError(found.code), words))
    probation_s = found[1].probation_s if found[1] else 0
    within_s = within or probation_s + BEYOND_PROBATION_S

    def progress(name: str, state: str, reason: str) -> None:
        print(f"{name}: {words.say(f'agent.push-{state}', {})} {words.say(reason, {}) if reason else ''}".rstrip())
        sys.stdout.flush()

    campaign = Campaign(endpoint, prefix, data, found[0].digest.hex(), progress)
    try:
        if isinstance(what, Rollout):
            ended = asyncio.run(campaign.send(what, within_s))
        else:
            ended = asyncio.run(campaign.watch(what, within_s))
    except failures.Mendable as error:
        raise typer.Exit(failures.tell(error, words)) from None
    gateways = [name for wave in ended.plan for name in wave]
    confirmed = sum(ended.states.get(name) == "confirmed" for name in gateways)
    print(words.say("agent.push-end", {"confirmed": confirmed, "all": len(gateways), "failed": len(ended.failed)}))
    raise typer.Exit(Exit.OK if confirmed == len(gateways) else Exit.UNPROVEN)
