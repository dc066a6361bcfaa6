"""
JSON Schema (draft 2020-12) of `captions.v1`, made from the message structs.

`docs/captions.v1.schema.json` holds a copy for readers of the repository, and the daemon serves the same document at
`/v1/captions/schema.json`. To renew the copy after a change of a struct:

    python -m streamer.protocol.schema > docs/captions.v1.schema.json
"""

from __future__ import annotations

import sys
from typing import TypeAlias

import msgspec

from streamer.protocol.events import Ack, Bye, Caption, Flushed, Skipped, Speech, TurnEnd, TurnRevised
from streamer.protocol.messages import PROTOCOL, ClientMessage, Draining, Error, Hello, RoomState, Started

AnyServerMessage: TypeAlias = (
    Hello
    | Started
    | Speech
    | Caption
    | TurnEnd
    | TurnRevised
    | Ack
    | Flushed
    | Skipped
    | Draining
    | RoomState
    | Error
    | Bye
)


def schema_text() -> str:
    """Return the schema as indented JSON; a frame is valid if it is a `ClientMessage` or a `ServerMessage`."""
    (client, server), components = msgspec.json.schema_components(
        [ClientMessage, AnyServerMessage], ref_template="#/$defs/{name}"
    )
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": PROTOCOL,
        "description": f"JSON text frames of {PROTOCOL}: those of a client (ClientMessage) and of the server.",
        "anyOf": [{"$ref": "#/$defs/ClientMessage"}, {"$ref": "#/$defs/ServerMessage"}],
        "$defs": {"ClientMessage": client, "ServerMessage": server, **components},
    }
    encoded = msgspec.json.encode(document, order="sorted")
    return f"{msgspec.json.format(encoded, indent=2).decode()}\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
