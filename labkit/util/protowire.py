"""Protobuf's wire format (protobuf.dev, "Encoding"), for messages that no installed package has the classes of."""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5


def varint(value: int) -> bytes:
    """A whole number, not negative, in as few bytes as it needs."""
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


def number_field(number: int, value: int) -> bytes:
    """A field of an integer or boolean type."""
    return varint(number << 3 | VARINT) + varint(value)


def bytes_field(number: int, value: bytes) -> bytes:
    """A field that is a message, or of type bytes."""
    return varint(number << 3 | LENGTH_DELIMITED) + varint(len(value)) + value


def text_field(number: int, value: str) -> bytes:
    return bytes_field(number, value.encode())


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of each field: an int for a varint, else bytes. Raises ValueError for what is no message; groups, which
    proto3 does not have, are none."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        wire = tag & 7
        if wire == VARINT:
            value, place = _varint(message, place)
            yield tag >> 3, value
            continue
        if wire not in (FIXED64, LENGTH_DELIMITED, FIXED32):
            raise ValueError(f"wire type {wire} is unknown")
        length, place = _varint(message, place) if wire == LENGTH_DELIMITED else (8 if wire == FIXED64 else 4, place)
        if place + length > len(message):
            raise ValueError("a field is cut short")
        yield tag >> 3, message[place : place + length]
        place += length


def _varint(message: bytes, place: int) -> tuple[int, int]:
    """The number that begins at a place, and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            raise ValueError("a number is cut short")
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << 64) - 1, place
    raise ValueError("a number is too long")
