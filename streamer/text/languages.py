"""
Whisper's languages: one table of codes and names, and the reading of language tags by it. Pure.

A tag is a code of ISO 639-1, 639-2 or 639-3, a BCP 47 tag (`en-US`, `zh-Hant-TW`), a POSIX locale (`de_AT.UTF-8`), or
a name in English or in the language itself. Region, script and variant are ignored: Whisper's languages have none.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence

__all__ = ["LANGUAGES", "NAMES", "expected_language", "known_language", "language_code", "listed_languages"]

# fmt: off
TABLE: dict[str, tuple[str, ...]] = {
    "en": ("english", "eng"),
    "zh": ("chinese", "mandarin", "simplified chinese", "traditional chinese", "putonghua", "zhongwen", "中文", "汉语",
           "漢語", "普通话", "普通話", "國語", "国语", "简体中文", "繁體中文", "zho", "chi", "cmn"),
    "de": ("german", "deutsch", "deu", "ger"),
    "es": ("spanish", "castilian", "español", "castellano", "spa"),
    "ru": ("russian", "русский", "rus"),
    "ko": ("korean", "한국어", "조선말", "kor"),
    "fr": ("french", "français", "fra", "fre"),
    "ja": ("japanese", "日本語", "nihongo", "jpn"),
    "pt": ("portuguese", "português", "brazilian portuguese", "por"),
    "tr": ("turkish", "türkçe", "tur"),
    "pl": ("polish", "polski", "pol"),
    "ca": ("catalan", "valencian", "català", "valencià", "cat"),
    "nl": ("dutch", "flemish", "nederlands", "vlaams", "nld", "dut"),
    "ar": ("arabic", "العربية", "ara", "arb", "arz", "ary", "arq", "apc", "ajp", "acm", "afb", "ars", "apd", "aeb",
           "acq", "ayl"),
    "sv": ("swedish", "svenska", "swe"),
    "it": ("italian", "italiano", "ita"),
    "id": ("indonesian", "bahasa indonesia", "ind", "in"),
    "hi": ("hindi", "हिन्दी", "हिंदी", "hin"),
    "fi": ("finnish", "suomi", "fin"),
    "vi": ("vietnamese", "tiếng việt", "vie"),
    "he": ("hebrew", "עברית", "heb", "iw"),
    "uk": ("ukrainian", "українська", "ukr"),
    "el": ("greek", "modern greek", "ελληνικά", "ell", "gre"),
    "ms": ("malay", "bahasa melayu", "bahasa malaysia", "melayu", "msa", "may", "zsm", "zlm"),
    "cs": ("czech", "čeština", "česky", "ces", "cze"),
    "ro": ("romanian", "moldavian", "moldovan", "română", "ron", "rum", "mo", "mol"),
    "da": ("danish", "dansk", "dan"),
    "hu": ("hungarian", "magyar", "hun"),
    "ta": ("tamil", "தமிழ்", "tam"),
    "no": ("norwegian", "bokmål", "norwegian bokmål", "norsk bokmål", "norsk", "nor", "nb", "nob"),
    "th": ("thai", "ไทย", "ภาษาไทย", "tha"),
    "ur": ("urdu", "اردو", "urd"),
    "hr": ("croatian", "hrvatski", "hrv", "scr"),
    "bg": ("bulgarian", "български", "bul"),
    "lt": ("lithuanian", "lietuvių", "lit"),
    "la": ("latin", "latina", "lat"),
    "mi": ("maori", "te reo māori", "mri", "mao"),
    "ml": ("malayalam", "മലയാളം", "mal"),
    "cy": ("welsh", "cymraeg", "cym", "wel"),
    "sk": ("slovak", "slovenčina", "slk", "slo"),
    "te": ("telugu", "తెలుగు", "tel"),
    "fa": ("persian", "farsi", "dari", "فارسی", "fas", "per", "pes", "prs"),
    "lv": ("latvian", "latviešu", "lav", "lvs"),
    "bn": ("bengali", "bangla", "বাংলা", "ben"),
    "sr": ("serbian", "српски", "srpski", "serbo-croatian", "srp", "scc", "sh", "hbs"),
    "az": ("azerbaijani", "azeri", "azərbaycanca", "aze", "azj", "azb"),
    "sl": ("slovenian", "slovene", "slovenščina", "slv"),
    "kn": ("kannada", "ಕನ್ನಡ", "kan"),
    "et": ("estonian", "eesti", "est", "ekk"),
    "mk": ("macedonian", "македонски", "mkd", "mac"),
    "br": ("breton", "brezhoneg", "bre"),
    "eu": ("basque", "euskara", "eus", "baq"),
    "is": ("icelandic", "íslenska", "isl", "ice"),
    "hy": ("armenian", "հայերեն", "hye", "arm"),
    "ne": ("nepali", "नेपाली", "nep", "npi"),
    "mn": ("mongolian", "монгол", "mon", "khk"),
    "bs": ("bosnian", "bosanski", "bos"),
    "kk": ("kazakh", "қазақ", "қазақша", "kaz"),
    "sq": ("albanian", "shqip", "sqi", "alb", "als"),
    "sw": ("swahili", "kiswahili", "swa", "swh"),
    "gl": ("galician", "galego", "glg"),
    "mr": ("marathi", "मराठी", "mar"),
    "pa": ("punjabi", "panjabi", "ਪੰਜਾਬੀ", "پنجابی", "pan", "pnb"),
    "si": ("sinhala", "sinhalese", "සිංහල", "sin"),
    "km": ("khmer", "cambodian", "ខ្មែរ", "khm"),
    "sn": ("shona", "chishona", "sna"),
    "yo": ("yoruba", "yorùbá", "yor"),
    "so": ("somali", "soomaali", "som"),
    "af": ("afrikaans", "afr"),
    "oc": ("occitan", "occitan (post 1500)", "oci"),
    "ka": ("georgian", "ქართული", "kat", "geo"),
    "be": ("belarusian", "беларуская", "bel"),
    "tg": ("tajik", "тоҷикӣ", "tgk"),
    "sd": ("sindhi", "سنڌي", "snd"),
    "gu": ("gujarati", "ગુજરાતી", "guj"),
    "am": ("amharic", "አማርኛ", "amh"),
    "yi": ("yiddish", "ייִדיש", "yid", "ydd", "ji"),
    "lo": ("lao", "laotian", "ລາວ"),
    "uz": ("uzbek", "o'zbek", "uzb", "uzn"),
    "fo": ("faroese", "føroyskt", "fao"),
    "ht": ("haitian creole", "haitian", "kreyòl ayisyen", "hat"),
    "ps": ("pashto", "pushto", "پښتو", "pus", "pbt", "pbu", "pst"),
    "tk": ("turkmen", "türkmen", "türkmençe", "tuk"),
    "nn": ("nynorsk", "norwegian nynorsk", "norsk nynorsk", "nno"),
    "mt": ("maltese", "malti", "mlt"),
    "sa": ("sanskrit", "संस्कृतम्", "san"),
    "lb": ("luxembourgish", "letzeburgesch", "lëtzebuergesch", "ltz"),
    "my": ("myanmar", "burmese", "မြန်မာ", "mya", "bur"),
    "bo": ("tibetan", "བོད་སྐད", "bod", "tib"),
    "tl": ("tagalog", "filipino", "pilipino", "tgl", "fil"),
    "mg": ("malagasy", "mlg", "plt"),
    "as": ("assamese", "অসমীয়া", "asm"),
    "tt": ("tatar", "татар", "татарча", "tat"),
    "haw": ("hawaiian", "'ōlelo hawai'i"),
    "ln": ("lingala", "lingála", "lin"),
    "ha": ("hausa", "hau"),
    "ba": ("bashkir", "башҡортса", "bak"),
    "jw": ("javanese", "basa jawa", "jv", "jav"),
    "su": ("sundanese", "basa sunda", "sun"),
    "yue": ("cantonese", "粵語", "粤语", "廣東話", "广东话"),
}
# fmt: on
"""Code: the name as published, other names, and other codes; all are compared in lower case, without accents."""
LANGUAGES: tuple[str, ...] = tuple(TABLE)
"""Language codes in the order of their tokens; models before large-v3 lack the last one."""
NAMES: dict[str, str] = {code: names[0] for code, names in TABLE.items()}
"""English name by code, as in Whisper's command line and in responses of OpenAI's API."""

_AUTO = ("auto", "und", "mul")
"""Tags that ask for detection: ISO 639 has `und` for an undetermined language, `mul` for several."""
_BCP_47 = re.compile(
    r"(?P<language>[a-z]{2,3})(-(?P<extended>[a-z]{3})){0,3}(-[a-z]{4})?(-([a-z]{2}|\d{3}))?"  # script, region
    r"(-([a-z\d]{5,8}|\d[a-z\d]{3}))*(-[a-wy-z\d](-[a-z\d]{2,8})+)*(-x(-[a-z\d]{1,8})+)?"  # variants, extensions
)
_APOSTROPHES = "'`\u2018\u2019\u02bb\u02bc"
_MAX_TAG_CHARS = 100
"""Longest tag that is read; the longest that BCP 47 wants to be held is 35."""


def _folded(text: str) -> str:
    """Text in lower case without accents and apostrophes, for comparison."""
    parts = unicodedata.normalize("NFKD", text.casefold())
    return unicodedata.normalize(
        "NFC", "".join(char for char in parts if not _is_accent(char) and char not in _APOSTROPHES)
    )


def _is_accent(char: str) -> bool:
    return "\u0300" <= char <= "\u036f"  # of the Latin, Greek and Cyrillic scripts; others spell vowels with marks


_CODES: dict[str, str] = {
    _folded(name): code for code, names in TABLE.items() for name in (code, *names)
} | dict.fromkeys(_AUTO, "auto")
"""Code by every code and name, folded."""


def language_code(tag: str) -> str | None:
    """
    Read a language tag or name: `en-US`, `EN`, `nob`, `zh-Hant`, `German`, `Deutsch`, `German (Austria)`.

    Returns:
        A code of `LANGUAGES`; `auto` where detection is asked for; None if Whisper has no such language.
    """
    if len(tag) > _MAX_TAG_CHARS:
        return None
    text = " ".join(_folded(tag).split())
    name = text.partition(" (")[0] if text.endswith(")") else text
    return _CODES.get(text) or _CODES.get(name) or _code_of_subtags(text)


def _code_of_subtags(text: str) -> str | None:
    """The code of a tag by its subtags: the extended language (`zh-yue`), otherwise the first one."""
    tag = re.split(r"[.@]", text.replace("_", "-"), maxsplit=1)[0]  # a locale also names an encoding and a modifier
    match = _BCP_47.fullmatch(tag)
    if match is None:
        return None
    return _CODES.get(match["extended"] or "") or _CODES.get(match["language"])


def known_language(tag: str, languages: Collection[str]) -> str | None:
    """
    The code that a model takes for a language tag, or `auto`; None if the model does not know the language.

    Args:
        tag: See `language_code`.
        languages: Codes of the model.
    """
    code = language_code(tag)
    return code if code == "auto" or code in languages else None


def known_languages(tags: Iterable[str], languages: Collection[str]) -> tuple[str, ...]:
    """
    The languages that tags name, each once, in their order; `auto` and those that the model does not know are left out.

    Args:
        tags: See `language_code`.
        languages: Codes of the model.
    """
    codes = (known_language(tag, languages) for tag in tags)
    return tuple(dict.fromkeys(code for code in codes if code and code != "auto"))


def expected_language(tag: str, languages: Sequence[str]) -> str:
    """
    What is expected in place of a tag that `known_language` refuses, for error messages, with the nearest language.

    Args:
        tag: The refused tag.
        languages: Codes of the model.
    """
    expected = f"expected auto or one of {listed_languages(languages)}"
    code = language_code(tag)
    if code in NAMES:
        return f"{expected}; this model does not know {NAMES[code]}"
    nearest = _nearest(tag, languages)
    return f"{expected}; did you mean {nearest} ({NAMES[nearest]})?" if nearest else expected


def _nearest(tag: str, languages: Sequence[str]) -> str | None:
    words = {word: code for word, code in _CODES.items() if code in languages}
    nearest = difflib.get_close_matches(_folded(tag[:_MAX_TAG_CHARS]), words, n=1)
    return words[nearest[0]] if nearest else None


def listed_languages(languages: Sequence[str], most: int = 12) -> str:
    """Return the first `most` language codes as text for an error message."""
    return ", ".join(languages[:most]) + (", …" if len(languages) > most else "")
