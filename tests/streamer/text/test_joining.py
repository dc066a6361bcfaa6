"""Tests of streamer.text.joining."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.text.joining import joined, space_between


@pytest.mark.parametrize(
    ("before", "text", "whole"),
    [
        ("So the first.", "And more.", "So the first. And more."),
        ("今日は。", "明日は雨です。", "今日は。明日は雨です。"),
        ("你好吗?", "我很好", "你好吗?我很好"),
        ("カタカナ", "ひらがな", "カタカナひらがな"),
        ("안녕하세요.", "반갑습니다.", "안녕하세요. 반갑습니다."),
        ("สวัสดีครับ", "วันนี้อากาศดี", "สวัสดีครับ วันนี้อากาศดี"),
        ("今天是", "2024年", "今天是2024年"),
        ("2024", "年", "2024年"),
        ("He paid 100", "2 times.", "He paid 100 2 times."),
        ("好的。", "OK", "好的。OK"),
        ("我用", "Python", "我用 Python"),
        ("Python", "好用", "Python 好用"),
        ("他说", "“好”", "他说“好”"),
        ("100", "200", "100 200"),
    ],
)
def test_two_texts(before: str, text: str, whole: str) -> None:
    """There is no space between two texts of Chinese or Japanese, beside their full stops, and before their numbers."""
    assert joined([before, text]) == whole


def test_texts_without_words_are_left_out() -> None:
    """A turn that was withdrawn leaves no second space."""
    assert joined(["", "a", "", "b", ""]) == "a b"
    assert joined([]) == ""


@pytest.mark.parametrize(("text", "space"), [("Hello", " "), ("こんにちは", ""), ("3 times", " ")])
def test_beginning_of_a_transcript(text: str, space: str) -> None:
    """Without a text before it a text has the space of its own script, as Whisper writes one."""
    assert space_between("", text) == space


@given(st.text(min_size=1), st.text("a1.好。", min_size=1), st.text())
def test_the_first_character_decides(before: str, text: str, more: str) -> None:
    """What joins two texts is known when the second one begins, however it goes on."""
    assert space_between(before, text) == space_between(before, text[0] + more)
