"""Tests of streamer/access/keys.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from streamer.access.keys import Caller, Keys, Right, find_key_file
from streamer.errors import ConfigError, KeyRefusedError, UnreadableFileError

KEY, OTHER = "kitchen-0123456789abcdef", "office-0123456789abcdef"


class Clock:
    """Unix time that a test moves."""

    now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Two keys."""
    (tmp_path / "keys").write_text(f"# ours\n\nkitchen {KEY}\noffice {OTHER}\n")
    return tmp_path / "keys"


class TestIdentify:
    """Who is who."""

    def test_each_key_has_its_name(self, file: Path) -> None:
        """The caller is named by its key."""
        keys = Keys(file)

        assert (keys.identify(KEY), keys.identify(OTHER)) == (Caller("kitchen"), Caller("office"))

    @pytest.mark.parametrize(
        ("presented", "message"),
        [
            (None, "an API key is needed"),
            ("", "an API key is needed"),
            (KEY[:-1], "not known"),
            (f"{KEY} ", "not known"),
            ("kitchen", "not known"),
            ("ключ", "not known"),
            ("t.kitchen.1.2", "not known"),
        ],
    )
    def test_no_key_and_an_unknown_key_are_refused(self, file: Path, presented: str | None, message: str) -> None:
        """The message says what is missing, and nothing of the keys there are."""
        with pytest.raises(KeyRefusedError, match=message) as refusal:
            Keys(file).identify(presented)

        assert KEY not in str(refusal.value)

    def test_without_keys_everybody_is_let_in(self) -> None:
        """Nobody is asked, and what is shown does not matter."""
        assert Keys().identify(None) == Keys().identify("anything") == Caller()

    def test_a_reload_drops_removed_keys(self, file: Path) -> None:
        """A broken file changes nothing."""
        keys = Keys(file)
        file.write_text(f"office {OTHER}\n")
        keys.reload()
        with pytest.raises(KeyRefusedError):
            keys.identify(KEY)

        file.write_text("office\n")
        with pytest.raises(ConfigError):
            keys.reload()
        assert keys.identify(OTHER) == Caller("office")


class TestTokens:
    """What pages show."""

    def test_a_token_stands_for_its_caller_until_it_expires(self, file: Path) -> None:
        """Also for a daemon that was started later; the second it expires it is refused."""
        clock = Clock()
        keys = Keys(file, clock=clock)
        token = keys.issue_token(keys.identify(KEY), 300)

        assert Keys(file, clock=clock).identify(token.text) == Caller(
            "kitchen", frozenset((Right.SPEAK, Right.WATCH)), by_token=True
        )
        clock.now_s = token.expires_at
        with pytest.raises(KeyRefusedError, match="expired"):
            keys.identify(token.text)

    def test_a_token_begets_no_token(self, file: Path) -> None:
        """A page cannot prolong what it was given."""
        keys = Keys(file)
        caller = keys.identify(keys.issue_token(keys.identify(KEY), 300).text)

        with pytest.raises(KeyRefusedError):
            keys.issue_token(caller, 300)

    def test_a_token_ends_with_its_key(self, file: Path) -> None:
        """A new key under the same name, or none, and the token is void."""
        keys = Keys(file)
        token = keys.issue_token(keys.identify(KEY), 300).text
        for content in (f"kitchen {OTHER}\n", f"office {KEY}\n"):
            file.write_text(content)
            keys.reload()
            with pytest.raises(KeyRefusedError, match="not issued here"):
                keys.identify(token)

    @pytest.mark.parametrize("field", [1, 2, 3])
    def test_a_changed_token_is_refused(self, file: Path, field: int) -> None:
        """Neither the name, nor the time, nor the signature."""
        keys = Keys(file)
        fields = keys.issue_token(keys.identify(KEY), 300).text.split(".")
        fields[field] = {1: "office", 2: str(int(fields[2]) + 1), 3: "A" * 43}[field]

        with pytest.raises(KeyRefusedError):
            keys.identify(".".join(fields))


class TestFile:
    """What a key file may hold."""

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", "holds no key"),
            ("# nothing\n", "holds no key"),
            (f"{KEY}\n", "line 1: found 1 words, expected NAME KEY"),
            (f"a {KEY}\nthe kit chen {KEY}\n", "line 2: found 4 words"),
            (f"kitchen {KEY} all\n", "line 1: rights are speak, state, watch"),
            (f"kitchen {KEY} issue\n", "line 1: rights are speak, state, watch"),
            (f"kitchen {KEY} watch,\n", "line 1: rights are speak, state, watch"),
            (f"küche {KEY}\n", "a name is up to 64 letters"),
            ("kitchen short\n", "at least 16 visible"),
            (f"kitchen {KEY}\nkitchen {OTHER}\n", "line 2: the name or the key is there twice"),
            (f"kitchen {KEY}\noffice {KEY}\n", "line 2: the name or the key is there twice"),
        ],
    )
    def test_a_mistake_in_the_file_is_named_by_its_line(self, tmp_path: Path, content: str, message: str) -> None:
        """The message never shows text that may be a key."""
        (tmp_path / "keys").write_text(content)

        with pytest.raises(ConfigError, match=message) as error:
            Keys(tmp_path / "keys")
        assert KEY not in str(error.value)

    def test_a_file_that_cannot_be_read_is_an_error(self, tmp_path: Path) -> None:
        """A file that was named and cannot be read stops the daemon: without it everybody would be let in."""
        with pytest.raises(UnreadableFileError, match="no such file"):
            Keys(tmp_path / "keys")
        (tmp_path / "keys").write_bytes(b"\xff\xfe")
        with pytest.raises(ConfigError, match="not text"):
            Keys(tmp_path / "keys")

    def test_an_editors_mark_is_passed_over(self, tmp_path: Path) -> None:
        """It is no part of the first name."""
        (tmp_path / "keys").write_text(f"kitchen {KEY}\n", encoding="utf-8-sig")
        assert Keys(tmp_path / "keys").identify(KEY).name == "kitchen"

    def test_the_configured_file_comes_before_the_credential(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Else the credential of the service manager, else none; an empty variable names no folder."""
        environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
        assert find_key_file("", environment) is None
        (tmp_path / "api-keys").touch()
        assert find_key_file("", environment) == tmp_path / "api-keys"
        assert find_key_file("/etc/keys", environment) == Path("/etc/keys")
        assert find_key_file("", {}) is None
        monkeypatch.chdir(tmp_path)
        assert find_key_file("", {"CREDENTIALS_DIRECTORY": ""}) is None

    def test_a_credential_that_cannot_be_looked_at_is_no_leave_to_do_without(self) -> None:
        """Reading it tells the reason."""
        file = find_key_file("", {"CREDENTIALS_DIRECTORY": "/" + 300 * "x"})
        with pytest.raises(UnreadableFileError, match=r"cannot read the key file .*: file name too long"):
            Keys(file)


def test_a_pipe_is_no_key_file(tmp_path: Path) -> None:
    """Reading it would wait for a writer, at a reload with the whole daemon."""
    os.mkfifo(tmp_path / "keys")

    with pytest.raises(ConfigError, match="not a regular file"):
        Keys(tmp_path / "keys")
