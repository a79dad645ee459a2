"""A value becomes the same bytes every time, and the bytes become an equal value that nobody else holds.

The bytes are an *element stream*: msgpack, two items for each value, `(code, payload)` after each other with nothing
around them, so that streams can be joined and cut at element borders:

    1        what msgpack itself can say: text, numbers, booleans, None, bytes, and lists and dicts of them
    2..5     a message of `messages.CLASSES`, as its fields
    0        anything else, as the `[type, bytes]` of the serializer

A chunk is one stream, and its `kind` says what was done to it: `z` compressed by zlib, `+name` encrypted by the
serializer's cipher `name` (after compression). With a serializer of the user's only code 0 is written, so that
every value has passed through it. Two values are the same to this package when their streams are the same bytes.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple, cast

import ormsgpack
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langgraph_durable.core.collector import uncollected
from langgraph_durable.core.messages import CLASSES, CODES, extra_of, fields_of, message_of, messages_of
from langgraph_durable.core.records import Chunk, Inline
from langgraph_durable.errors import UnserializableError

PLAIN = frozenset({str, int, float, bool, type(None), dict, list, bytes})
"""Types that code 1 is tried for; what they contain decides whether it holds."""

COMPRESS_FROM = 1024
"""Bytes. Below it zlib saves too little for the 6 us that reading it again would cost."""

WINDOW = 12
"""Bits of zlib's window: 4 KiB. It saves next to nothing less than the usual 32, and needs no fresh pages each time."""

DIGEST_SIZE = 16

_CODES = frozenset({0, 1, *CLASSES})

_END_VALUE = 0xDEADBEEF
_END = b"\xce\xde\xad\xbe\xef"


class Unread(NamedTuple):
    """A value as the serializer left it, `[type, bytes]`, for one that is to be moved and not looked at."""

    kind: str
    data: bytes


class Codec:
    """Streams of values under one serializer.

    `native` allows codes other than 0: only with the serializer that this package chose itself. `key` goes into the
    digests, so that whoever holds an encrypted database cannot try out contents against them. `readable` compresses
    nothing, for a store that keeps what it is given as text.
    """

    def __init__(self, serde: SerializerProtocol, *, native: bool, key: bytes = b"", readable: bool = False) -> None:
        self.serde = serde
        self.native = native and type(serde) is JsonPlusSerializer
        self.key = key
        self.readable = readable
        self._cipher = serde.cipher if isinstance(serde, EncryptedSerializer) else None
        # A function and no method of this very object: that would be a circle, which only the collector takes away.
        self._decode: Callable[[Codec, str, bytes], Any] = Codec._read
        self._inner: SerializerProtocol = serde.serde if isinstance(serde, EncryptedSerializer) else serde

    @property
    def encrypts(self) -> bool:
        """Whether chunks are encrypted here, rather than (if at all) inside the serializer."""
        return self._cipher is not None

    @property
    def moves(self) -> bool:
        """Whether what its serializer made can be read by every other codec of which the same is true."""
        return type(self._inner) is JsonPlusSerializer

    def moving(self, *, whole: bool) -> Codec:
        """The same, for values that are to be stored elsewhere, where the app's own classes may not be there.

        What takes the serializer to decode is `Unread` or, when it has to be the `whole` value, an error if it comes
        out as something less.
        """
        codec = copy.copy(self)
        codec._decode = Codec._whole if whole else Codec._unread
        return codec

    def stream(self, value: Any, channel: str) -> bytes:
        """The stream of one value. UnserializableError names `channel` and the place inside the value."""
        if self.native:
            kind = type(value)
            if kind in CODES:
                fields = fields_of(value)
                if fields is not None:
                    try:
                        return bytes((CODES[kind],)) + pack(fields)
                    except TypeError:
                        pass  # something inside is not plain: the serializer knows more types
            elif kind in PLAIN:
                try:
                    return b"\x01" + pack(value)
                except TypeError:
                    pass
        if type(value) is Unread:
            return b"\x00" + pack(list(value))
        try:
            return b"\x00" + pack(self._inner.dumps_typed(value))
        except RecursionError as error:
            raise _unserializable(self._inner, value, channel, error) from error
        except Exception as error:
            raise _unserializable(self._inner, value, channel, error) from error

    def streams(self, values: Sequence[Any], channel: str, offset: int = 0) -> list[bytes]:
        """The stream of each value; `offset` is the index of the first one, for the error's sake."""
        made = []
        for index, value in enumerate(values, offset):
            try:
                made.append(self.stream(value, channel))
            except UnserializableError as error:
                raise _inside(error, f"[{index}]") from error.__cause__
        return made

    def fast_stream(self, values: list[Any]) -> bytes | None:
        """The joined stream of a list in one call, to be compared with a stored one; None where that is not possible.

        It does not look at what is inside a message as `stream` does: a message that `stream` would hand to the
        serializer comes out differently here, which is a difference found for nothing, never one missed.
        """
        if not self.native:
            return None
        kinds = set(map(type, values))
        flat: list[Any] = [None] * (2 * len(values))
        if kinds <= CODES.keys():
            if any(map(extra_of, values)):
                return None
            flat[0::2] = [CODES[type(value)] for value in values] if len(kinds) > 1 else _codes(kinds, len(values))
            flat[1::2] = [value.__dict__ for value in values]
        elif kinds <= PLAIN:
            flat[0::2] = [1] * len(values)
            flat[1::2] = values
        else:
            return None
        try:
            return packed(flat)
        except TypeError:
            return None

    def values(self, stream: bytes, count: int) -> list[Any]:
        """The `count` values of a stream, all of them new. ValueError when the bytes are not that."""
        try:
            with uncollected(count):
                return self._values(stream, count)
        except Exception as error:
            raise ValueError(f"its bytes do not decode ({error or type(error).__name__})") from error

    def payloads(self, stream: bytes, count: int) -> tuple[list[int], list[Any]]:
        """The codes and the payloads of the `count` values of a stream. ValueError when the bytes are not that."""
        # Bytes after the last value would be ignored; with an end of its own there cannot be any.
        flat = ormsgpack.unpackb(_header(2 * count + 1) + stream + _END, option=ormsgpack.OPT_NON_STR_KEYS)
        if flat.pop() != _END_VALUE:
            raise ValueError("there is more in it than there should be")
        codes, payloads = flat[0::2], flat[1::2]
        if not all(map(_CODES.__contains__, codes)) or any(type(code) is not int for code in set(codes)):
            raise ValueError("there is a kind of value in it that this release does not know")
        return codes, payloads

    def _values(self, stream: bytes, count: int) -> list[Any]:
        codes, payloads = self.payloads(stream, count)
        kinds = set(codes)
        if kinds == {1}:
            return list(payloads)
        if kinds <= CLASSES.keys():
            return cast("list[Any]", messages_of(codes, payloads))
        return [self._value(code, payload) for code, payload in zip(codes, payloads, strict=True)]

    def _value(self, code: int, payload: Any) -> Any:
        if code == 1:
            return payload
        if code == 0:
            kind, data = payload
            return self._decode(self, kind, data)
        return message_of(code, payload)

    def _read(self, kind: str, data: bytes) -> Any:
        return self._inner.loads_typed((kind, data))

    def _unread(self, kind: str, data: bytes) -> Unread:
        return Unread(kind, data)

    def _whole(self, kind: str, data: bytes) -> Any:
        value = self._read(kind, data)
        # The serializer gives the parts of what it does not know or is not allowed to make, without its name.
        if self.moves and len(self._inner.dumps_typed(value)[1]) < len(data):
            raise ValueError("it has a class in it that cannot be imported, or is not allowed, in this process")
        return value

    def digest(self, stream: bytes) -> bytes:
        """The name of a stream inside its thread."""
        return blake2b(stream, digest_size=DIGEST_SIZE, key=self.key).digest()

    def names(self, digest: bytes, stream: bytes) -> bool:
        """Whether `digest` is the name of `stream`, under this codec's key or from before there was one."""
        return digest == self.digest(stream) or (
            bool(self.key) and digest == blake2b(stream, digest_size=DIGEST_SIZE).digest()
        )

    def seal(self, stream: bytes) -> Inline:
        """A stream as it is stored: compressed if that pays, encrypted if the serializer does."""
        kind, data = "", stream
        if len(stream) >= COMPRESS_FROM and not self.readable:
            press = zlib.compressobj(1, zlib.DEFLATED, WINDOW, 5)
            pressed = press.compress(stream) + press.flush()
            if len(pressed) < len(stream) - len(stream) // 8:
                kind, data = "z", pressed
        if self._cipher is not None:
            name, data = self._cipher.encrypt(data)
            kind = f"{kind}+{name}"
        return Inline(kind, data)

    def chunk(self, stream: bytes, digest: bytes) -> Chunk:
        """A stream as a chunk of its thread."""
        return Chunk(digest, *self.seal(stream))

    def open(self, sealed: Inline) -> bytes:
        """The stream that was sealed. ValueError when it cannot be read."""
        kind, data = sealed
        if "+" in kind:
            kind, name = kind.split("+", 1)
            if self._cipher is None:
                raise ValueError(f"it is encrypted with {name!r}; open the database with the serializer that wrote it")
            data = self._cipher.decrypt(name, data)
        if kind == "z":
            unpress = zlib.decompressobj()
            try:
                data = unpress.decompress(data)
            except zlib.error as error:
                raise ValueError(f"its compressed bytes are damaged ({error})") from error
            if not unpress.eof or unpress.unused_data:
                raise ValueError("its compressed bytes are not as long as they should be")
        elif kind:
            raise ValueError(f"it is stored in a way that this release does not know ({kind!r})")
        return data


_OPTIONS = (
    ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_UUID
)


def pack(value: Any) -> bytes:
    """`value` in msgpack. TypeError for whatever msgpack has no form of its own for: no `default`, nothing implied."""
    return ormsgpack.packb(value, option=_OPTIONS)


def packed(flat: list[Any]) -> bytes:
    """Codes and payloads in turns as a stream; TypeError as for `pack`."""
    return pack(flat)[_header_size(len(flat)) :]


def _codes(kinds: set[type], count: int) -> list[int]:
    return [CODES[kind] for kind in kinds] * count


def _header_size(items: int) -> int:
    return 1 if items < 16 else 3 if items < 1 << 16 else 5


def _header(items: int) -> bytes:
    """The head of a msgpack array, https://github.com/msgpack/msgpack/blob/master/spec.md#array-format-family."""
    if items < 16:
        return bytes((0x90 | items,))
    return b"\xdc" + items.to_bytes(2, "big") if items < 1 << 16 else b"\xdd" + items.to_bytes(4, "big")


def _unserializable(serde: SerializerProtocol, value: Any, channel: str, cause: BaseException) -> UnserializableError:
    path, culprit = _culprit(serde, value)
    name = f"{type(culprit).__module__}.{type(culprit).__qualname__}".removeprefix("builtins.")
    return UnserializableError(_message(channel, path, name, cause), channel=channel, path=path, type_name=name)


def _message(channel: str, path: str, name: str, cause: BaseException | None) -> str:
    where = f"channel {channel!r}" + (f" at {path}" if path else "")
    return (
        f"cannot serialize {where}: {name} ({cause}). Nothing was stored. Keep it out of the state, turn it into "
        "data before it gets there, or give the saver a `serde` that knows it."
    )


def _inside(error: UnserializableError, prefix: str) -> UnserializableError:
    path = prefix + error.path
    message = _message(error.channel, path, error.type_name, error.__cause__)
    return UnserializableError(message, channel=error.channel, path=path, type_name=error.type_name)


def _culprit(serde: SerializerProtocol, value: Any, depth: int = 0) -> tuple[str, Any]:
    """The innermost part of `value` that the serializer refuses, and the way to it."""
    if depth < 32:
        for step, part in _parts(value):
            try:
                serde.dumps_typed(part)
            except Exception:  # noqa: BLE001  refused, for whatever reason: go on inside
                path, culprit = _culprit(serde, part, depth + 1)
                return step + path, culprit
    return "", value


def _parts(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [(f"[{key!r}]", part) for key, part in value.items()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return [(f"[{index}]", part) for index, part in enumerate(value)]
    # No way to look into a value with neither is needed: it is then itself what was refused.
    fields = getattr(value, "__dict__", None)
    if isinstance(fields, dict):
        return [(f".{name}", part) for name, part in fields.items()]
    slots = getattr(type(value), "__slots__", ())
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    return [(f".{name}", getattr(value, name)) for name in names if hasattr(value, name)]
