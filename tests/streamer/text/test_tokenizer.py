"""The tokenizer, compared with the published one."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import whisper.tokenizer
from hypothesis import given
from hypothesis import strategies as st
from whisper.tokenizer import LANGUAGES as PUBLISHED_LANGUAGES
from whisper.tokenizer import Tokenizer as PublishedTokenizer

from streamer.text.languages import LANGUAGES
from streamer.text.tokenizer import Tokenizer
from streamer.weights.vocabulary import build_tokenizer


def published_tokenizer(**options: Any) -> PublishedTokenizer:
    """The published tokenizer, which leaves its vocabulary file open."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        return whisper.tokenizer.get_tokenizer(**options)


ASSETS = Path(whisper.__file__).parent / "assets"
ENGLISH = build_tokenizer(ASSETS / "gpt2.tiktoken", 51864)
MULTILINGUAL = build_tokenizer(ASSETS / "multilingual.tiktoken", 51865)
LARGE_V3 = build_tokenizer(ASSETS / "multilingual.tiktoken", 51866)
KINDS = [
    pytest.param(ENGLISH, published_tokenizer(multilingual=False), id="english"),
    pytest.param(MULTILINGUAL, published_tokenizer(multilingual=True), id="multilingual"),
    pytest.param(LARGE_V3, published_tokenizer(multilingual=True, num_languages=100), id="large-v3"),
]
TEXTS = {
    "latin": "Où est l'été? Straße, naïve, ¿qué? 3.5 % of 1,000",
    "cyrillic": "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "greek": "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.",
    "arabic": "نص حكيم له سر قاطع وذو شأن عظيم؟",
    "hebrew": "דג סקרן שט בים מאוכזב ולפתע מצא חברה.",
    "devanagari": "ऋषियों को सताने वाले दुष्ट राक्षसों।",
    "han": "我能吞下玻璃而不伤身体。",
    "kana": "いろはにほへと ちりぬるを、カタカナ。",
    "hangul": "다람쥐 헌 쳇바퀴에 타고파.",
    "thai": "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า",
    "emoji": "fine 👩‍👩‍👧 and 🇩🇪",
}


def words(tokenizer: Tokenizer, text: str, language: str) -> list[str]:
    """The words of a text, as text."""
    return [tokenizer.decode(word) for word in tokenizer.split_words(tokenizer.encode(text), language)]


@pytest.mark.parametrize(("ours", "published"), KINDS)
def test_special_tokens_are_the_published_ones(ours: Tokenizer, published: PublishedTokenizer) -> None:
    """Every number that the decoder is steered with."""
    names = ["sot", "eot", "sot_prev", "sot_lm", "no_speech", "no_timestamps", "transcribe", "translate"]
    for name in [*names, "timestamp_begin", "non_speech_tokens"]:
        assert getattr(ours, name) == getattr(published, name), name
    assert ours.n_vocab == published.encoding.n_vocab
    assert ours.blank_tokens == (*published.encode(" "), published.eot)


def test_languages_are_the_published_ones() -> None:
    """Codes in id order, each with its token."""
    assert tuple(PUBLISHED_LANGUAGES) == LANGUAGES
    for ours, n_languages in ((MULTILINGUAL, 99), (LARGE_V3, 100)):
        published = published_tokenizer(multilingual=True, num_languages=n_languages)
        codes_and_tokens = zip(published.all_language_codes, published.all_language_tokens, strict=True)
        assert ours.languages == dict(codes_and_tokens)
        assert list(ours.languages.values()) == sorted(ours.languages.values())
    assert ENGLISH.languages == {"en": 50258}
    assert [kind.multilingual for kind in (ENGLISH, MULTILINGUAL, LARGE_V3)] == [False, True, True]


@pytest.mark.parametrize("task", ["transcribe", "translate"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_start_sequences_are_the_published_ones(language: str, task: str) -> None:
    """For every language and both tasks; English-only models have one sequence."""
    published = published_tokenizer(multilingual=True, num_languages=100, language=language, task=task)

    assert LARGE_V3.sot_sequence(language, task) == published.sot_sequence
    assert ENGLISH.sot_sequence("en", task) == published_tokenizer(multilingual=False).sot_sequence


@pytest.mark.parametrize(
    ("tokenizer", "language", "task", "message"),
    [
        (MULTILINGUAL, "yue", "transcribe", "language 'yue': this model knows en, zh"),
        (ENGLISH, "de", "transcribe", "language 'de': this model knows en$"),
        (MULTILINGUAL, "de", "summarise", "task 'summarise': expected transcribe or translate"),
    ],
)
def test_unknown_start_sequences_are_refused(tokenizer: Tokenizer, language: str, task: str, message: str) -> None:
    """The message says what the model knows."""
    with pytest.raises(ValueError, match=message):
        tokenizer.sot_sequence(language, task)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize(("ours", "published"), KINDS)
def test_text_is_encoded_as_published(ours: Tokenizer, published: PublishedTokenizer, text: str) -> None:
    """The same tokens, and the text back, in every script."""
    tokens = ours.encode(text)

    assert tokens == published.encode(text)
    assert ours.decode(tokens) == published.decode(tokens) == text
    assert ours.decode_bytes(tokens) == text.encode()


@given(st.text())
def test_any_text_comes_back(text: str) -> None:
    """Whatever the text is, names of special tokens among it."""
    for tokenizer in (ENGLISH, MULTILINGUAL):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_names_of_special_tokens_are_text() -> None:
    """A prompt cannot smuggle in control tokens."""
    tokens = MULTILINGUAL.encode("<|endoftext|><|en|>")

    assert max(tokens) < MULTILINGUAL.eot
    assert MULTILINGUAL.decode(tokens) == "<|endoftext|><|en|>"


def test_special_tokens_have_no_text() -> None:
    """Start sequence, timestamps and end are skipped."""
    tokens = [
        *LARGE_V3.sot_sequence("de", "translate"),
        LARGE_V3.timestamp_begin + 7,
        *LARGE_V3.encode(" Ja"),
    ]

    assert LARGE_V3.decode([*tokens, LARGE_V3.eot]) == " Ja"


@given(st.lists(st.integers(0, 50256), max_size=30), st.sampled_from(["en", "zh"]))
def test_words_concatenate_to_the_whole(tokens: list[int], language: str) -> None:
    """No token is lost or moved, no word is empty, whatever bytes the tokens are."""
    grouped = MULTILINGUAL.split_words(tokens, language)

    assert [token for word in grouped for token in word] == tokens
    assert all(grouped)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])), st.sampled_from(["en", "ja"]))
def test_no_word_ends_inside_a_character(text: str, language: str) -> None:
    """The texts of the words are the text, without a replacement character of our making."""
    assert "".join(words(MULTILINGUAL, text, language)) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" so the first thing is late.", [" so", " the", " first", " thing", " is", " late."]),
        (' he said, "Well-known!" (3.5 %)', [" he", " said,", ' "Well-known!"', " (3.5", " %)"]),
        (" don't ... stop", [" don't ...", " stop"]),
        (" - Hello", [" - Hello"]),
        (" ¿qué pasa? “sí”", [" ¿qué", " pasa?", " “sí”"]),
        (" Qui ? Moi !", [" Qui ?", " Moi !"]),
        ("no space before", ["no", " space", " before"]),
        (" #tag @home", [" #tag", " @home"]),
        ("", []),
    ],
)
def test_words_of_spaced_languages(text: str, expected: list[str]) -> None:
    """A word begins at a space; punctuation stays with the word it belongs to."""
    assert words(MULTILINGUAL, text, "en") == expected
    if text.isascii():
        assert words(ENGLISH, text, "en") == expected


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\ufffd"), max_size=20),
    st.integers(0, 30),
    st.integers(0, 60),
)
def test_a_cut_text_keeps_its_whole_characters(text: str, first: int, last: int) -> None:
    """Wherever its tokens are cut, beginning and end: what is kept is a part of the text, and a whole text is whole."""
    tokens = MULTILINGUAL.encode(text)
    cut = tokens[first:last]

    kept = MULTILINGUAL.whole_characters(cut)

    assert MULTILINGUAL.decode_bytes(cut[i] for i in kept).decode() in text
    assert kept == list(range(kept[0], kept[-1] + 1)) if kept else True
    assert MULTILINGUAL.whole_characters(tokens) == list(range(len(tokens)))


@given(st.lists(st.integers(0, 50256), max_size=30), st.text(max_size=5))
def test_bytes_that_are_not_utf_8_are_left_out(tokens: list[int], text: str) -> None:
    """Whatever a decoder says: what is kept can be read, and a text behind it is kept where it does not complete it."""
    behind = MULTILINGUAL.encode(f" a{text}")

    kept = MULTILINGUAL.whole_characters([*tokens, *behind])

    assert MULTILINGUAL.decode_bytes([*tokens, *behind][i] for i in kept).decode().endswith(f" a{text}")


@pytest.mark.parametrize("name", ["latin", "cyrillic", "greek", "arabic", "hebrew", "devanagari", "hangul"])
def test_spaced_words_are_those_between_spaces(name: str) -> None:
    """Without lone punctuation, words are what a reader would count."""
    text = " " + TEXTS[name].replace(" %", "%")

    assert words(MULTILINGUAL, text, "xx") == [f" {word}" for word in text.split()]


@pytest.mark.parametrize(("name", "language"), [("han", "zh"), ("kana", "ja"), ("thai", "th"), ("han", "yue")])
def test_words_of_unspaced_languages(name: str, language: str) -> None:
    """Split as published, at every character boundary, then punctuation joined."""
    text = TEXTS[name].rstrip("。")
    tokens = LARGE_V3.encode(text)
    published = published_tokenizer(multilingual=True, num_languages=100, language=language)

    _, groups = published.split_to_word_tokens(tokens)

    assert [token for word in LARGE_V3.split_words(tokens, language) for token in word] == tokens
    assert len(LARGE_V3.split_words(tokens, language)) == len(groups) - text.count("、")


def test_punctuation_of_unspaced_languages() -> None:
    """Closing marks belong to the word before, opening brackets to the word after."""
    assert words(MULTILINGUAL, "是。「我」", "zh") == ["是。", "「我」"]


@pytest.mark.parametrize(
    ("tokens", "n_languages", "message"),
    [
        ([bytes([byte]) for byte in range(255)], 1, "no token for 1 of 256 single bytes, the first is 0xff"),
        ([*(bytes([byte]) for byte in range(256)), b"a"], 1, "1 of 257 tokens occur twice"),
        ([bytes([byte]) for byte in range(256)], 0, "0 languages: expected 1 to 100"),
        ([bytes([byte]) for byte in range(256)], 101, "101 languages: expected 1 to 100"),
    ],
)
def test_impossible_vocabularies_are_refused(tokens: list[bytes], n_languages: int, message: str) -> None:
    """What the encoding would crash on is refused with a message."""
    with pytest.raises(ValueError, match=message):
        Tokenizer(tokens, n_languages)
