"""Tests of streamer/daemon/microphone.py: in the terminal and in a daemon, with an engine that is never wrong."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Callable

import numpy as np
import pytest

from streamer.config import Config
from streamer.daemon import microphone
from streamer.errors import CaptureError, DeviceNotFoundError, EngineError, OverloadError
from streamer.protocol.options import SessionOptions
from tests.helpers.scripted_engine import ScriptedService, spoken
from tests.helpers.served_daemon import Manager, Microphone, Plugged, serve, terminate


def caption(scripted: ScriptedService, source: Microphone) -> int:
    """Show captions of a microphone in the terminal."""
    config = Config(session=SessionOptions(language="en"))
    return microphone.caption_terminal(config, build=lambda _: scripted.parts(), open_microphone=source.open)


def missing() -> None:
    """As where no device is plugged in."""
    raise DeviceNotFoundError("no input device found")


def test_a_microphone_that_is_not_there_ends_a_daemon_that_a_person_starts(
    config: Config, scripted: ScriptedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the error of the microphone alone: it is probably named wrongly."""
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    microphone = Microphone(None, missing)

    with pytest.raises(DeviceNotFoundError):
        serve(scripted, config, microphone)
    assert microphone.seen == [config.capture, "closed"]


def test_a_served_microphone_is_captioned_until_the_stop(
    manager: Manager, config: Config, scripted: ScriptedService
) -> None:
    """The stop closes it."""
    microphone = Microphone(spoken("b c d f", pause_s=1.0), terminate)

    assert serve(scripted, config, microphone) == 0
    assert microphone.seen == [config.capture, "closed"]


def test_a_service_waits_for_a_microphone_that_is_not_there(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start and after a loss; its session keeps its place, its room is live while there is sound."""
    monkeypatch.setattr(microphone, "AWAY_S", 0.0)
    scripted = ScriptedService(max_sessions=1)
    alive: list[float | None] = []

    def note(then: Callable[[], None]) -> Callable[[], None]:
        def react() -> None:
            with pytest.raises(OverloadError):
                scripted.open()
            alive.append(scripted.count("streamer_microphone_alive"))
            then()

        return react

    sound = spoken("b c d f")
    found = [Microphone(None, note(missing)) for _ in range(2)]
    found += [Microphone(sound, note(missing)), Microphone(None, note(missing)), Microphone(sound, note(terminate))]

    assert serve(scripted, config, Plugged(*found)) == 0

    assert alive == [0, 0, 1, 0, 1]
    assert scripted.count("streamer_sessions_opened_total") == 2
    assert [microphone.seen[-1] for microphone in found] == ["closed"] * 5


def test_a_microphone_whose_session_fails_gets_another_one(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions of others go on."""
    monkeypatch.setattr(microphone, "AWAY_S", 0.0)
    scripted = ScriptedService()
    n_left = itertools.count(3, -1)

    def fail(_: object) -> None:
        if next(n_left) > 0:
            raise EngineError("a step failed")

    scripted.engine.on_step = fail
    waits = Microphone(spoken("b c d f", pause_s=9.0), lambda: None)

    assert serve(scripted, config, Plugged(waits, Microphone(spoken("b c"), terminate))) == 0
    assert scripted.count("streamer_sessions_opened_total") == 2


def test_a_muted_microphone_keeps_its_place(config: Config) -> None:
    """A client that finds no place is refused, and the daemon goes on."""
    scripted = ScriptedService(max_sessions=1, silent_s=0.0)

    def come() -> None:
        with pytest.raises(OverloadError, match="1 of 1 sessions open"):
            scripted.open()
        terminate()

    assert serve(scripted, config, Microphone(np.zeros(160, np.float32), come)) == 0


def test_captions_are_shown_in_the_terminal(scripted: ScriptedService, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C makes the rest final, and the exit code is 0."""
    microphone = Microphone(spoken("b c d f"), lambda: os.kill(os.getpid(), signal.SIGINT))

    assert caption(scripted, microphone) == 0

    assert "b c d f" in capsys.readouterr().out
    assert microphone.seen[-1] == "closed"


def test_a_microphone_that_is_lost_ends_the_captions(
    scripted: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was said before is shown, then the error is raised."""

    def lost() -> None:
        raise CaptureError("the device is lost")

    with pytest.raises(CaptureError, match="lost"):
        caption(scripted, Microphone(spoken("b c d f"), lost))
    assert "b c d f" in capsys.readouterr().out


def test_a_fault_ends_the_captions(scripted: ScriptedService) -> None:
    """A scheduler that fails does not leave the terminal waiting."""

    def fault(_: object) -> None:
        raise ZeroDivisionError

    scripted.engine.on_step = fault

    with pytest.raises((ZeroDivisionError, ExceptionGroup)):
        caption(scripted, Microphone(spoken("b c d f"), lambda: None))
