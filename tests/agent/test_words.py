"""Words for codes: found by domain and language, filled with fields, never an exception."""

from string import ascii_lowercase

from hypothesis import given
from hypothesis import strategies as st

from agent.words import Words


def test_a_code_is_said_in_the_language_asked_for():
    """The same code, two languages."""
    assert Words("en").say("config.too-big", {"text": "9"}) == "`9` is too large"
    assert Words("vi").say("config.too-big", {"text": "9"}) == "`9` quá lớn"
    assert Words("vi").hint("config.too-big", {"limit": 5}) == "Lớn nhất là 5."


def test_an_unknown_language_is_spoken_to_in_english():
    """Rather than not at all."""
    assert Words("fr").say("config.too-big", {"text": "9"}) == "`9` is too large"


def test_a_code_without_words_is_said_as_it_is():
    """With its fields, so that nothing is lost."""
    assert Words("vi").say("nobody.said-so", {"a": 1, "b": "x"}) == "nobody.said-so a=1 b=x"
    assert Words("vi").hint("nobody.said-so", {}) is None


def test_a_field_that_is_missing_keeps_its_place():
    """A sentence with a hole is better than a traceback."""
    assert Words("en").say("config.too-big", {}) == "`{text}` is too large"


def test_braces_in_a_field_are_text():
    """What a file contains is never taken for a format."""
    assert (
        Words("en").say("config.too-big", {"text": "{limit} {0.__class__}"}) == "`{limit} {0.__class__}` is too large"
    )


@given(st.text(), st.dictionaries(st.text(alphabet=ascii_lowercase), st.integers()))
def test_nothing_that_is_asked_for_raises(code, fields):
    """Whatever the code and the fields."""
    assert isinstance(Words("vi").say(code, fields), str)
    Words("vi").hint(code, fields)


def test_the_catalogues_own_header_is_no_message():
    """Gettext keeps it under the empty name."""
    assert "charset" not in Words("vi").say("", {})
