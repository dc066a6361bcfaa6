"""
The lines between a gateway and its keeper, the program that keeps engines on a cluster. Pure.

A line is a message in JSON. The gateway says what to keep, then how many engines there shall be; the keeper tells where
engines are, each time that it has looked. Both are programs of one machine, and the keeper ends with its gateway.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from streamer.remote import wire


class Line(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="type"):
    """Base of all lines."""


# --- from the gateway


class Keep(Line, frozen=True, kw_only=True):
    """The first line: which engines to keep."""

    address: str
    """Of the cluster; empty: start one on this machine, which ends with the keeper."""
    family: str
    """Begins the names of engines that are interchangeable, and of no others."""
    begin: wire.Begin
    """What each of them loads; `model.device` may be `auto`."""
    build: str
    """Function that builds the host of an engine, as `package.module:function`."""
    count: int
    """Engines that there always are; 0: one for each GPU of the cluster, or for each of its CPUs."""
    most: int
    """Engines that there are at most; 0: no more than `count`."""


class Number(Line, frozen=True, kw_only=True):
    """Start or end engines, once, so that there are `n`."""

    n: int


# --- from the keeper


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where an engine is, and what proves that a gateway may use it."""

    index: int
    """Among the engines of its family."""
    host: str
    port: int
    secret: str
    """In hexadecimal digits; every process of an engine has its own."""
    pid: int


class Bounds(Line, frozen=True, kw_only=True):
    """The first line of the keeper: numbers of engines."""

    count: int
    most: int


class Roster(Line, frozen=True, kw_only=True):
    """What the keeper has found."""

    n: int
    """Engines that there are, those that start among them."""
    ready: tuple[Address, ...]
    failures: tuple[str, ...] = ()
    """Why engines cannot start."""


FromGateway: TypeAlias = Keep | Number
FromKeeper: TypeAlias = Bounds | Roster | wire.Failed

_FROM_GATEWAY: msgspec.json.Decoder[FromGateway] = msgspec.json.Decoder(FromGateway)
_FROM_KEEPER: msgspec.json.Decoder[FromKeeper] = msgspec.json.Decoder(FromKeeper)


def line(message: Line | wire.Failed) -> bytes:
    """A message as a line."""
    return msgspec.json.encode(message) + b"\n"


def from_gateway(line: bytes) -> FromGateway:
    """
    Decode what a gateway said.

    Raises:
        WireError: It is no line of a gateway.
    """
    try:
        return _FROM_GATEWAY.decode(line)
    except msgspec.MsgspecError as error:
        raise wire.WireError(f"no line of a gateway: {error}") from error


def from_keeper(line: bytes) -> FromKeeper:
    """
    Decode what a keeper said.

    Raises:
        WireError: It is no line of a keeper.
    """
    try:
        return _FROM_KEEPER.decode(line)
    except msgspec.MsgspecError as error:
        raise wire.WireError(f"no line of a keeper: {error}") from error
