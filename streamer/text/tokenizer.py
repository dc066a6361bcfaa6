"""
Tokenizer: text to tokens and back, and the grouping of tokens into words. Pure.

Layout of the ids, as published: the base tokens of the vocabulary, then end of text, start of transcript, one token per
language, six task tokens, and 1501 timestamps of 20 ms. Text tokens are those below `eot`.
"""

from __future__ import annotations

import codecs
import functools
from collections.abc import Iterable, Iterator, Sequence

import tiktoken

from streamer.text.languages import LANGUAGES
from streamer.text.token_classes import comma_tokens, growing_tokens, small_letter_tokens

__all__ = ["N_TASK_AND_TIME_TOKENS", "Tokenizer"]

TASK_TOKENS = ("translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps")
N_TIMESTAMPS = 1501
N_TASK_AND_TIME_TOKENS = 2 + len(TASK_TOKENS) + N_TIMESTAMPS
"""Special tokens beside the languages: end of text, start of transcript, tasks, timestamps."""

UNSPACED_LANGUAGES = frozenset({"zh", "ja", "th", "lo", "my", "yue"})
"""Languages written without spaces between words, as published."""

# The pre-tokenizer of GPT-2, which every Whisper vocabulary was trained with.
PATTERN = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""

CLOSING = frozenset(".。,，!！?？:：;；…、”’)]}」』）》】〉؟،؛।")  # noqa: RUF001  # meant
OPENING = frozenset("“‘„«¿¡([{「『（《【〈")  # noqa: RUF001  # meant
# Opening marks after a space, otherwise closing marks.
AMBIGUOUS = frozenset("\"'-–—")  # noqa: RUF001  # meant

SYMBOLS = (
    *'"#()*+/:;<=>@[\\]^_`{|}~「」『』',
    *("<<", ">>", "<<<", ">>>", "--", "---", "-(", "-[", "('", '("', "((", "))", "(((", ")))"),
    *("[[", "]]", "{{", "}}", "♪♪", "♪♪♪"),
)
# Several tokens each; no other useful character has the same first token.
MUSIC = tuple("♩♪♫♬♭♮♯")


class Tokenizer:
    """
    The vocabulary of one model.

    Args:
        base_tokens: Bytes of every token below `eot`, in id order; ids are the ranks of the encoding.
        n_languages: Language tokens the model has, 1 <= n_languages <= len(LANGUAGES).

    Raises:
        ValueError: A token occurs twice, a byte has no token, or the number of languages is out of range.
    """

    def __init__(self, base_tokens: Sequence[bytes], n_languages: int) -> None:
        _check(base_tokens, n_languages)
        self._base_tokens = tuple(base_tokens)
        self.n_languages = n_languages
        """Language tokens, with those that an English-only model does not use."""
        specials = _special_tokens(len(base_tokens), n_languages)
        self._encoding = tiktoken.Encoding(
            name="whisper",
            pat_str=PATTERN,
            mergeable_ranks={token: rank for rank, token in enumerate(base_tokens)},
            special_tokens=specials,
        )
        self.multilingual = b"" in self._base_tokens
        """Whether the model is multilingual; only multilingual vocabularies have an empty token."""
        known = LANGUAGES[:n_languages] if self.multilingual else ("en",)
        self.languages = {code: specials[f"<|{code}|>"] for code in known}
        """Language code -> token, in id order. English-only models have unused tokens for the others."""
        self.n_vocab = len(base_tokens) + len(specials)
        self.eot = specials["<|endoftext|>"]
        self.sot = specials["<|startoftranscript|>"]
        self.translate = specials["<|translate|>"]
        self.transcribe = specials["<|transcribe|>"]
        self.sot_lm = specials["<|startoflm|>"]
        self.sot_prev = specials["<|startofprev|>"]
        self.no_speech = specials["<|nospeech|>"]
        self.no_timestamps = specials["<|notimestamps|>"]
        self.timestamp_begin = specials["<|0.00|>"]
        self.blank_tokens = (*self.encode(" "), self.eot)
        """Suppressed as the first token of a transcript."""
        self.non_speech_tokens = self._non_speech_tokens()
        """Speaker tags, brackets and notes: suppressed everywhere, as published."""

    @property
    def base_tokens(self) -> tuple[bytes, ...]:
        """Bytes of every token below `eot`, in id order."""
        return self._base_tokens

    @functools.cached_property
    def growing_tokens(self) -> frozenset[int]:
        """See `token_classes.growing_tokens`."""
        return growing_tokens(self._base_tokens)

    @functools.cached_property
    def small_letter_tokens(self) -> frozenset[int]:
        """See `token_classes.small_letter_tokens`."""
        return small_letter_tokens(self._base_tokens)

    @functools.cached_property
    def comma_tokens(self) -> frozenset[int]:
        """See `token_classes.comma_tokens`."""
        return comma_tokens(self._base_tokens)

    def encode(self, text: str) -> list[int]:
        """Tokens of `text`; the names of special tokens are ordinary text here."""
        return self._encoding.encode_ordinary(text)

    def decode(self, tokens: Iterable[int]) -> str:
        """Text of `tokens` without the special ones; bytes that are not UTF-8 become U+FFFD."""
        return self.decode_bytes(tokens).decode("utf-8", errors="replace")

    def decode_bytes(self, tokens: Iterable[int]) -> bytes:
        """Bytes of `tokens` without the special ones."""
        return b"".join(self._base_tokens[token] for token in tokens if token < self.eot)

    def sot_sequence(self, language: str, task: str) -> tuple[int, ...]:
        """
        The tokens a transcript starts with, `no_timestamps` not included.

        Args:
            language: A key of `languages`.
            task: "transcribe" or "translate"; English-only models have one task and ignore it.

        Raises:
            ValueError: The model has no such language, or the task does not exist.
        """
        if language not in self.languages:
            raise ValueError(f"language {language!r}: this model knows {', '.join(self.languages)}")
        if task not in ("transcribe", "translate"):
            raise ValueError(f"task {task!r}: expected transcribe or translate")
        if not self.multilingual:
            return (self.sot,)
        return self.sot, self.languages[language], self.transcribe if task == "transcribe" else self.translate

    def split_words(self, tokens: Sequence[int], language: str) -> list[list[int]]:
        """
        Group text tokens into words; the groups concatenate to `tokens`.

        A word begins at a space, in languages without spaces at every character boundary. No group but the
        last ends inside a character. Closing punctuation belongs to the word before, opening punctuation
        to the word after.

        Source: the published `Tokenizer.split_to_word_tokens` and `merge_punctuations`; here hyphens and
        decimal points stay inside their word.
        """
        spaced = language not in UNSPACED_LANGUAGES
        words: list[list[int]] = []
        last = ""
        for piece in self._pieces(tokens):
            text = self.decode(piece)
            begins = text[:1].isspace() if spaced else True
            if words and (not begins or _is_closing(text) or _is_opening(last)):
                words[-1] += piece
                last += text
            else:
                words.append(piece)
                last = text
        return words

    def whole_characters(self, tokens: Sequence[int]) -> list[int]:
        """
        Indices of the tokens that make whole characters.

        Left out are the tokens of a character that the text cuts off, at its beginning or end, and of bytes that are
        not UTF-8. A token may end one character and begin the next: it is left out with either.
        """
        if _unfinished(self.decode_bytes(tokens)) == b"":
            return list(range(len(tokens)))
        whole: list[int] = []
        pending: list[int] = []
        begun = b""
        for i, token in enumerate(tokens):
            data = self.decode_bytes([token])
            rest = _unfinished(begun + data)
            if rest is None:  # what had begun is not completed; the token may begin another character
                pending, rest = [], _unfinished(data)
            if rest is not None:
                pending.append(i)
            begun = rest or b""
            if not begun:
                whole += pending
                pending = []
        return whole

    def _pieces(self, tokens: Sequence[int]) -> Iterator[list[int]]:
        """Shortest runs of tokens that end at a character boundary; the last run may end inside a character."""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        piece: list[int] = []
        for token in tokens:
            piece.append(token)
            decoder.decode(self.decode_bytes([token]))
            if not decoder.getstate()[0]:
                yield piece
                piece = []
        if piece:
            yield piece

    def _non_speech_tokens(self) -> tuple[int, ...]:
        # Hyphens and quotes stay allowed inside words, not at the beginning of one.
        tokens = {self.encode(" -")[0], self.encode(" '")[0]}
        for symbol in SYMBOLS + MUSIC:
            for encoded in (self.encode(symbol), self.encode(" " + symbol)):
                if len(encoded) == 1 or symbol in MUSIC:
                    tokens.add(encoded[0])
        return tuple(sorted(tokens))


def _check(base_tokens: Sequence[bytes], n_languages: int) -> None:
    known = set(base_tokens)
    if len(known) != len(base_tokens):
        raise ValueError(f"{len(base_tokens) - len(known)} of {len(base_tokens)} tokens occur twice")
    missing = [byte for byte in range(256) if bytes([byte]) not in known]
    if missing:
        raise ValueError(f"no token for {len(missing)} of 256 single bytes, the first is 0x{missing[0]:02x}")
    if not 1 <= n_languages <= len(LANGUAGES):
        raise ValueError(f"{n_languages} languages: expected 1 to {len(LANGUAGES)}")


def _special_tokens(first: int, n_languages: int) -> dict[str, int]:
    """Published name -> id of every special token, ids from `first` on."""
    names = ["endoftext", "startoftranscript", *LANGUAGES[:n_languages], *TASK_TOKENS]
    names += [f"{0.02 * step:.2f}" for step in range(N_TIMESTAMPS)]
    return {f"<|{name}|>": first + offset for offset, name in enumerate(names)}


def _unfinished(data: bytes) -> bytes | None:
    """The bytes at the end that begin a character; None if the bytes before them are not UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(data)
    except UnicodeDecodeError:
        return None
    return decoder.getstate()[0]


def _is_closing(text: str) -> bool:
    allowed = CLOSING if text[:1].isspace() else CLOSING | AMBIGUOUS
    return bool(text.strip()) and allowed.issuperset(text.strip())


def _is_opening(text: str) -> bool:
    # Blank text counts: a lone space belongs to the word after it.
    allowed = OPENING | AMBIGUOUS if text[:1].isspace() else OPENING
    return allowed.issuperset(text.strip())
