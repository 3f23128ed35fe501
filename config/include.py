"""Links in files of their own: `links.d/*.yaml` beside the technician's file.

What is always true here:

- Such a file holds `links:` and nothing else, written as in the main file, so that a part can be moved between them.
  Paths and secrets in it are found as if it stood in the main file.
- Which files they are, and what the digest of all of them is, stands in `config.raw`. An empty one adds nothing.
- A link stands in one file. A second one of its name is a fault that names both places.
- A file that cannot be understood does not hide the faults of another. All files together have at most `SIZE_LIMIT`
  bytes; what is beyond is not parsed.

`config.load` enters.
"""

from pathlib import Path
from typing import NamedTuple

from config.errors import ConfigFaults, Fault, KeyPath, Place, fault_at
from config.raw import SIZE_LIMIT, beside, digest, read_bytes
from config.source import Document, parse


class Files(NamedTuple):
    """All files of a configuration as one document, and the digest of them all."""

    document: Document
    digest: bytes


def read(path: Path) -> Files:
    """Read a file and those beside it. Raises ConfigFaults where the main file cannot be understood at all."""
    data = read_bytes(path)
    document = parse(data, path)
    parts: dict[Path, bytes] = {}
    try:
        parts_found = beside(path)
    except ConfigFaults as faults:
        parts_found = ()
        _lack(document, faults.faults)
    for file in parts_found:
        try:
            parts[file] = read_bytes(file)
            if len(data) + sum(map(len, parts.values())) > SIZE_LIMIT:
                _lack(document, (fault_at(Place(file, 1, 1), "config.too-large-together", limit=SIZE_LIMIT),))
                break
            _join(document, parse(parts[file], file))
        except ConfigFaults as faults:
            _lack(document, faults.faults)
    return Files(document, digest(path, data, parts))


def _lack(document: Document, faults: tuple[Fault, ...]) -> None:
    """Note that links are missing for a reason that is a fault already."""
    document.faults += faults
    document.broken.add(("links",))
    if isinstance(document.value, dict) and document.value.get("links") is None:
        document.value["links"] = {}


def _join(document: Document, part: Document) -> None:
    """Add the links of a further file to the document."""
    if () in part.broken:  # nothing is written in it
        return
    document.faults += part.faults
    if not isinstance(part.value, dict):
        _lack(document, (fault_at(part.place(()), "config.not-mapping"),))
        return
    main = document.file.name
    for key in part.value:
        if key != "links":
            document.faults.append(fault_at(part.key_place((key,)), "config.only-links", (key,), key=key, main=main))
    links = part.value.get("links")
    if isinstance(links, dict):
        _join_links(document, part, links)
    elif links is not None:
        _lack(document, (fault_at(part.place(("links",)), "config.not-mapping", ("links",)),))


def _join_links(document: Document, part: Document, links: dict[str, object]) -> None:
    if not isinstance(document.value, dict):
        return
    if document.value.get("links") is None:
        document.value["links"] = {}
    whole = document.value["links"]
    if not isinstance(whole, dict):
        return
    taken: set[object] = set()
    for name, link in links.items():
        path = ("links", name)
        if name in whole:
            first = document.key_place(path)
            words = {"name": name, "first": f"{first.file}:{first.line}"}
            document.faults.append(fault_at(part.key_place(path), "config.duplicate-link", path, **words))
        else:
            whole[name] = link
            taken.add(name)
    _take_places(document, part, taken)


def _take_places(document: Document, part: Document, links: set[object]) -> None:
    """Take over where these links stand."""

    def theirs(path: KeyPath) -> bool:
        return len(path) > 1 and path[0] == "links" and path[1] in links

    document.values.update((path, place) for path, place in part.values.items() if theirs(path))
    document.keys.update((path, place) for path, place in part.keys.items() if theirs(path))
    document.parts.update(filter(theirs, part.parts))
    document.broken.update(filter(theirs, part.broken))
