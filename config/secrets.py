"""Secrets: names in the file, values elsewhere.

What is always true here:

- The configuration file holds names only. A value comes from the directory systemd gives credentials in
  (systemd.exec(5), `LoadCredential=`), or else from a file of that name in `secrets/` beside the configuration.
- A file in `secrets/` that anyone but its owner can read is refused, not read; systemd keeps its own directory private.
- One line end at the end of the file belongs to the editor, not to the secret.

`config.load` enters.
"""

import stat
from pathlib import Path

from config.raw import read_regular

SIZE_LIMIT = 64 * 1024


class SecretFault(Exception):
    """A secret cannot be had. Carries a code and the fields of its words."""

    def __init__(self, code: str, **fields: object) -> None:
        self.code = code
        self.fields = fields
        super().__init__(code, fields)


def resolve(name: str, beside: Path, credentials: Path | None) -> str:
    """Read the value of a secret. `beside` is the configuration's directory. Raises SecretFault."""
    if credentials is not None and (credentials / name).is_file():
        return _value(name, credentials / name)
    path = beside / "secrets" / name
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise SecretFault("config.secret-missing", name=name, file=path) from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SecretFault("config.secret-open", name=name, file=path, mode=f"{stat.S_IMODE(mode):04o}")
    return _value(name, path)


def _value(name: str, path: Path) -> str:
    try:
        data = read_regular(path, SIZE_LIMIT + 1)
        text = data.decode().removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise SecretFault("config.secret-unreadable", name=name, file=path) from error
    if not text or len(data) > SIZE_LIMIT:
        raise SecretFault("config.secret-unreadable", name=name, file=path)
    return text
