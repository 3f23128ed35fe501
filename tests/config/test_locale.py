"""Words: every code has them in Vietnamese and English, with the same fields, compiled as they are written."""

import ast
import gettext
import re
import string
from pathlib import Path

import pytest
from babel.messages.pofile import read_po

ROOT = Path(__file__).parents[2]
LOCALE = ROOT / "config" / "locale"
CODE = re.compile(r"(config|serial|drivers|modbus|opcua|simulated|buffer|agent|format)\.[a-z0-9-]*[a-z0-9]")
NO_CODES = {"buffer.db"}
DOMAINS = sorted(file.stem for file in (LOCALE / "en" / "LC_MESSAGES").glob("*.po"))


def catalogue(language, domain):
    """Read a .po as {msgid: msgstr}."""
    with (LOCALE / language / "LC_MESSAGES" / f"{domain}.po").open("rb") as stream:
        return {message.id: message.string for message in read_po(stream) if message.id}


def placeholders(text):
    """Name the fields that words use."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def raised():
    """Find every code that the source names."""
    for package in ("agent", "buffer", "config", "drivers"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and is_code(node.value):
                    yield node.value, file


def is_code(value):
    """Say whether a constant is a code of ours, and no module's or file's name."""
    if not isinstance(value, str) or not CODE.fullmatch(value):
        return False
    return value not in NO_CODES and not is_module(value)


def is_module(name):
    """Say whether a text is the name of a module of ours rather than a code."""
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


@pytest.mark.parametrize("domain", DOMAINS)
def test_both_languages_say_the_same_things_with_the_same_fields(domain):
    """No message lacks its Vietnamese, and none loses a field in translation."""
    vietnamese, english = catalogue("vi", domain), catalogue("en", domain)
    assert vietnamese.keys() == english.keys()
    for msgid, words in vietnamese.items():
        assert words, msgid
        assert english[msgid], msgid
        if not msgid.endswith(".hint"):
            assert placeholders(words) == placeholders(english[msgid]), msgid


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("language", ["vi", "en"])
def test_the_compiled_catalogue_is_the_written_one(language, domain):
    """Run `make locale` after a change."""
    compiled = gettext.translation(domain, LOCALE, [language])
    for msgid, words in catalogue(language, domain).items():
        assert compiled.gettext(msgid) == words


def test_every_code_in_the_source_has_words():
    """A fault without words would be shown as a code."""
    known = {msgid for domain in DOMAINS for msgid in catalogue("vi", domain)}
    missing = {f"{code} ({file.name})" for code, file in raised() if code not in known}
    assert missing == set()


def test_every_word_is_said_by_somebody():
    """A code that nothing raises is dead."""
    used = {code for code, _ in raised()}
    ours = {msgid for domain in ("config", "serial") for msgid in catalogue("vi", domain)}
    assert {msgid for msgid in ours if msgid.removesuffix(".hint") not in used} == set()


def test_vietnamese_is_written_with_its_marks():
    """Words without diacritics are not Vietnamese."""
    for domain in ("config", "serial"):
        text = " ".join(catalogue("vi", domain).values())
        marked = sum(
            character in "ăâđêôơưàảãáạằẳẵắặầẩẫấậèẻẽéẹềểễếệìỉĩíịòỏõóọồổỗốộờởỡớợùủũúụừửữứựỳỷỹýỵ" for character in text
        )
        assert marked > len(text) / 10
