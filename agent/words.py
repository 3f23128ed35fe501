"""Words for codes: what a fault or an error says to a person, in the language asked for.

What is always true here:

- The words stand in the gettext catalogues of `config/locale`: the domain is the part of the code before the first
  dot, the msgid is the code, and `<code>.hint` says how to mend it. `{field}` stands for a field.
- Nothing here raises: without words in the language there are English ones, without those the code and its fields.

Whoever speaks to a person enters: the commands, the status page, the log.
"""

import gettext
import string
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import config

Language = Literal["vi", "en"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
_FALLBACK = "en"


def environment_language(environment: Mapping[str, str]) -> str:
    """Give the language of a terminal: that of its locale if it is one of ours, else Vietnamese."""
    spoken = (environment.get(name, "")[:2] for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    return next((code for code in spoken if code in LANGUAGES), "vi")


class Words:
    """Speaks one language."""

    def __init__(self, language: str) -> None:
        self.language = language if language in LANGUAGES else _FALLBACK

    def say(self, code: str, fields: Mapping[str, object]) -> str:
        """Say what a code means."""
        words = self._find(code)
        if words is None:
            return " ".join((code, *(f"{name}={value}" for name, value in fields.items())))
        return _fill(words, fields)

    def hint(self, code: str, fields: Mapping[str, object]) -> str | None:
        """Say how to mend it, if there is something to say."""
        words = self._find(f"{code}.hint")
        return None if words is None else _fill(words, fields)

    def _find(self, msgid: str) -> str | None:
        domain = msgid.partition(".")[0]
        for language in (self.language, _FALLBACK):
            words = _catalogue(domain, language).gettext(msgid)
            if words != msgid:
                return words
        return None


@cache
def _catalogue(domain: str, language: str) -> gettext.NullTranslations:
    if not domain.isidentifier():
        return gettext.NullTranslations()
    folder = Path(config.__file__).parent / "locale"
    return gettext.translation(domain, folder, [language], fallback=True)


class _Fields(dict[str, object]):
    """Fields that leave the place of a missing one as it is written."""

    def __missing__(self, name: str) -> str:
        return "{" + name + "}"


def _fill(words: str, fields: Mapping[str, object]) -> str:
    try:
        return string.Formatter().vformat(words, (), _Fields(fields))
    except (ValueError, LookupError, AttributeError, TypeError):
        return words
