"""What crosses a desk socket: calls, answers and events as MessagePack, typed by a desk's Protocol.

    methods_of(ConferenceDesk) -> name -> Method             signature, argument and result decoders
    encode(Call(...)) -> bytes;  TO_SERVER.decode(bytes);  TO_CLIENT.decode(bytes)

Pure: no socket, no clock. `desk_socket` moves these messages in frames of at most FRAME_BYTES.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, get_type_hints

import msgspec

from foundation.desks import RefusalKind
from foundation.events import EVENT_TYPES

FRAME_BYTES: Final = 4 << 20


class Call(msgspec.Struct, frozen=True, array_like=True, tag=1):
    id: int
    desk: str
    method: str
    arguments: msgspec.Raw


class Cancel(msgspec.Struct, frozen=True, array_like=True, tag=2):
    id: int


class Answer(msgspec.Struct, frozen=True, array_like=True, tag=3):
    id: int
    value: msgspec.Raw


class Refused(msgspec.Struct, frozen=True, array_like=True, tag=4):
    id: int
    kind: RefusalKind
    detail: str
    retry_after: int | None


class Failed(msgspec.Struct, frozen=True, array_like=True, tag=5):
    id: int
    detail: str


class Announced(msgspec.Struct, frozen=True, array_like=True, tag=6):
    name: str
    event: msgspec.Raw


class Missed(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """So many events did not fit: the client should look for itself."""

    count: int


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """The server's first word: it is alive, not merely a socket that a dying or hanging process left."""


ToServer = Call | Cancel
ToClient = Hello | Answer | Refused | Failed | Announced | Missed
encode: Final = msgspec.msgpack.Encoder().encode
TO_SERVER: msgspec.msgpack.Decoder[ToServer] = msgspec.msgpack.Decoder(ToServer)
TO_CLIENT: msgspec.msgpack.Decoder[ToClient] = msgspec.msgpack.Decoder(ToClient)
EVENTS = {kind.__name__: msgspec.msgpack.Decoder(kind) for kind in EVENT_TYPES}


@dataclass(frozen=True, slots=True)
class Method:
    """One method of a Protocol, with the types that its arguments and its result are read back with."""

    name: str
    signature: inspect.Signature
    arguments: msgspec.msgpack.Decoder[tuple[Any, ...]]
    result: msgspec.msgpack.Decoder[Any]


def methods_of(protocol: Callable[..., object]) -> dict[str, Method]:
    """Raises TypeError for a Protocol that cannot cross (a method that is no coroutine, *arguments)."""
    methods: dict[str, Method] = {}
    for name, function in inspect.getmembers(protocol, inspect.isfunction):
        if name.startswith("_"):
            continue
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"{function.__qualname__} is not a coroutine: it cannot be called from elsewhere")
        parameters = list(inspect.signature(function).parameters.values())[1:]
        plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        if any(parameter.kind not in plain for parameter in parameters):
            raise TypeError(f"{function.__qualname__} takes arguments without names of their own")
        hints = get_type_hints(function)
        types = tuple(hints[parameter.name] for parameter in parameters)
        methods[name] = Method(
            name,
            inspect.Signature(parameters),
            msgspec.msgpack.Decoder(tuple[types] if types else tuple[()]),  # type: ignore[valid-type] # built at run time
            msgspec.msgpack.Decoder(hints["return"]),
        )
    return methods
