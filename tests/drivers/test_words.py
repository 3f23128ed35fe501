"""Every code that a driver raises has its words, in both languages, with the fields that it brings."""

import ast
import gettext
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = (*(ROOT / "drivers").rglob("*.py"), ROOT / "agent" / "poller.py")
DOMAINS = ("drivers", "modbus", "opcua", "simulated")
CODE = re.compile(rf"(?:{'|'.join(DOMAINS)})\.[a-z0-9-]+")
FIELD = re.compile(r"{(\w+)}")


def raised():
    """Give every code in the sources, with the names of the fields given beside it anywhere."""
    nodes = [node for path in SOURCES for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    texts = (node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
    codes = {text: set() for text in texts if CODE.fullmatch(text)}
    for call in (node for node in nodes if isinstance(node, ast.Call)):
        for code in (argument.value for argument in call.args if isinstance(argument, ast.Constant)):
            if code in codes:
                codes[code] |= {keyword.arg for keyword in call.keywords if keyword.arg}
                codes[code] |= {key.value for other in call.args if isinstance(other, ast.Dict) for key in other.keys}
    return codes


SPREAD = {"wire", "host", "port", "url", "reason", "unit"}
"""Fields that arrive by `**` or by a variable code."""


@pytest.mark.parametrize("language", ["vi", "en"])
def test_every_code_has_words_and_no_word_is_left_over(language):
    """A code without words would be shown as it is; words without a code are a promise nobody keeps."""
    spoken = set()
    for domain in DOMAINS:
        words = gettext.translation(domain, ROOT / "config" / "locale", [language])
        spoken |= {code for code in words._catalog if code and not code.endswith(".hint")}
    assert spoken == set(raised())


@pytest.mark.parametrize("language", ["vi", "en"])
def test_words_ask_only_for_fields_that_the_code_brings(language):
    """A placeholder without a field would fail when it is needed most."""
    for code, fields in raised().items():
        words = gettext.translation(code.split(".")[0], ROOT / "config" / "locale", [language])
        asked = set(FIELD.findall(words.gettext(code)))
        hint = words.gettext(code + ".hint")
        asked |= set(FIELD.findall(hint)) if hint != code + ".hint" else set()
        assert asked <= fields | SPREAD, code
