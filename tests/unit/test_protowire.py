"""Protobuf's wire format, against the messages of the protobuf package."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.wrappers_pb2 import DoubleValue, FloatValue, UInt64Value
from hypothesis import given
from hypothesis import strategies as st

from labkit.util.protowire import bytes_field, fields, number_field, text_field, varint


@given(st.integers(0, 2**64 - 1))
def test_numbers_are_written_and_read_as_protobuf_does(number: int) -> None:
    assert number_field(1, number) == (UInt64Value(value=number).SerializeToString() or b"\x08\x00")
    assert list(fields(number_field(1, number))) == [(1, number)]


def test_texts_messages_and_fixed_numbers() -> None:
    message = FileDescriptorProto(name="a.proto", package="é" * 200, dependency=["b"])
    written = text_field(1, "a.proto") + text_field(2, "é" * 200) + bytes_field(3, b"b")
    assert written == message.SerializeToString()
    assert dict(fields(written)) == {1: b"a.proto", 2: ("é" * 200).encode(), 3: b"b"}
    assert [len(value) for _, value in fields(DoubleValue(value=1).SerializeToString()) if isinstance(value, bytes)] == [8]
    assert [len(value) for _, value in fields(FloatValue(value=1).SerializeToString()) if isinstance(value, bytes)] == [4]


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"\x08", "a number is cut short"),
        (b"\x08\x80", "a number is cut short"),
        (b"\x08" + b"\x80" * 10 + b"\x01", "a number is too long"),
        (b"\x0a\x05ab", "a field is cut short"),
        (b"\x09\x00", "a field is cut short"),
        (b"\x0b", "wire type 3 is unknown"),
        (varint(2**63), "wire type 0|cut short"),
    ],
)
def test_what_is_no_message_is_refused(message: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        list(fields(message))
