"""Tests of streamer.text.languages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from whisper.tokenizer import LANGUAGES as PUBLISHED
from whisper.tokenizer import TO_LANGUAGE_CODE

from streamer.text.languages import (
    LANGUAGES,
    NAMES,
    TABLE,
    expected_language,
    known_language,
    known_languages,
    language_code,
    listed_languages,
)

CODES = st.sampled_from(LANGUAGES)
LOWER = "abcdefghijklmnopqrstuvwxyz"
SCRIPTS = st.text(LOWER, min_size=4, max_size=4)
REGIONS = st.text(LOWER, min_size=2, max_size=2) | st.integers(0, 999).map("{:03}".format)
VARIANTS = st.text(LOWER, min_size=5, max_size=8)
EXTENSIONS = st.builds("{}-{}".format, st.sampled_from("tux"), st.text(LOWER, min_size=2, max_size=8))


@st.composite
def cased(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> str:
    """A text with each character in either case."""
    text = draw(texts)
    return "".join(char.upper() if draw(st.booleans()) else char for char in text)


@st.composite
def subtags(draw: st.DrawFn) -> str:
    """Script, region, variant and extension in their order, each of them or not, after either separator."""
    parts = [draw(part) for part in (SCRIPTS, REGIONS, VARIANTS, EXTENSIONS) if draw(st.booleans())]
    return "".join(draw(st.sampled_from("-_")) + part for part in parts)


def test_every_language_has_its_published_name() -> None:
    """The same codes and names as published, in the order of the tokens."""
    assert NAMES == PUBLISHED
    assert tuple(PUBLISHED) == LANGUAGES


def test_no_code_or_name_stands_for_two_languages() -> None:
    """Every entry of the table is read as the language of its row."""
    for code, names in TABLE.items():
        assert {name: language_code(name) for name in (code, *names)} == dict.fromkeys((code, *names), code)


@pytest.mark.parametrize(("name", "code"), TO_LANGUAGE_CODE.items())
def test_every_name_of_whispers_command_line_is_read(name: str, code: str) -> None:
    """Aliases such as burmese and flemish too."""
    assert language_code(name.title()) == code


@given(cased(CODES), cased(subtags()))
def test_case_region_and_script_do_not_change_the_language(code: str, rest: str) -> None:
    """A code with any further subtags, in any case, with hyphens or underscores, is itself."""
    assert language_code(f" {code}{rest} ") == code.lower()


@given(cased(CODES.map(NAMES.__getitem__)), st.sampled_from(["", " (Region)"]))
def test_names_are_read_in_any_case(name: str, region: str) -> None:
    """A region may stand in parentheses."""
    assert NAMES[language_code(name + region) or ""] == name.lower()


@pytest.mark.parametrize(
    ("tag", "code"),
    [
        ("en-US", "en"), ("EN", "en"), ("zh-Hant", "zh"), ("zh-cmn-Hans-CN", "zh"), ("zh-yue", "yue"),
        ("yue-HK", "yue"), ("O\u02bbzbek", "uz"),
        ("nb", "no"), ("nb-NO", "no"), ("nn-NO", "nn"), ("fil", "tl"), ("fil-PH", "tl"), ("iw", "he"), ("iw-IL", "he"),
        ("in", "id"), ("ji", "yi"), ("jv", "jw"), ("jv-Latn-ID", "jw"), ("jav", "jw"), ("deu", "de"), ("ger", "de"),
        ("fra", "fr"), ("arz", "ar"), ("es-419", "es"), ("sr-Latn-RS", "sr"), ("pt_BR.UTF-8", "pt"),
        ("ca@valencia", "ca"),
        ("de-1996", "de"), ("de-CH-1901-x-custom", "de"), ("German", "de"), ("Deutsch", "de"), ("français", "fr"),
        ("Francais", "fr"), ("ESPAÑOL", "es"), ("日本語", "ja"), ("Русский", "ru"), ("हिन्दी", "hi"), ("Türkçe", "tr"),
        ("German (Austria)", "de"), ("Norwegian  Bokmål", "no"), ("auto", "auto"), ("AUTO", "auto"), ("und", "auto"),
        ("tlh", None), ("klingon", None), ("xx", None), ("xx-US", None), ("", None), ("-", None), ("english-", None),
        ("en-", None), ("e", None), ("en-US-", None), ("enus", None), ("C.UTF-8", None), ("de;q=0.9", None),
        ("en" * 1000, None), ("\0", None),
    ],
)  # fmt: skip
def test_tags_of_several_standards_are_read(tag: str, code: str | None) -> None:
    """ISO 639 of every part, BCP 47, old codes, POSIX locales, names; what is none of them is None."""
    assert language_code(tag) == code


@given(st.text(max_size=200))
def test_any_text_is_a_code_or_none(text: str) -> None:
    """Nothing else comes out, and nothing is raised."""
    assert language_code(text) in (*LANGUAGES, "auto", None)
    expected_language(text, LANGUAGES)


def test_a_model_takes_the_languages_it_knows() -> None:
    """And always `auto`."""
    assert [known_language(tag, ("en", "de")) for tag in ("de-AT", "auto", "fr")] == ["de", "auto", None]
    assert known_languages(("de-AT", "auto", "fr", "German", "en"), ("en", "de")) == ("de", "en")


@pytest.mark.parametrize(
    ("tag", "known", "message"),
    [
        ("germn", ("en", "de"), "expected auto or one of en, de; did you mean de (german)?"),
        ("Deutch", ("en", "de"), "expected auto or one of en, de; did you mean de (german)?"),
        ("de", ("en",), "expected auto or one of en; this model does not know german"),
        ("germn", ("en",), "expected auto or one of en"),
        ("qqqqq", ("en", "de"), "expected auto or one of en, de"),
    ],
)
def test_a_refused_tag_names_what_is_expected(tag: str, known: tuple[str, ...], message: str) -> None:
    """With the nearest language that the model knows."""
    assert expected_language(tag, known) == message


def test_a_long_list_of_languages_is_cut() -> None:
    """The first twelve, and a sign that there are more."""
    assert listed_languages(("en", "de")) == "en, de"
    assert listed_languages(LANGUAGES) == ", ".join(LANGUAGES[:12]) + ", …"
