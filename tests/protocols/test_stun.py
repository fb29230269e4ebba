"""STUN against the vectors of RFC 5769 and against itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.stun import (
    BINDING,
    ErrorCode,
    IceControlled,
    IceControlling,
    MappedAddress,
    Priority,
    Software,
    StunAttribute,
    StunClass,
    StunError,
    StunMessage,
    UnknownAttribute,
    UnknownAttributes,
    UseCandidate,
    Username,
    XorMappedAddress,
    looks_like_stun,
)

PASSWORD = b"VOkJxbRl1RmTxUk/WvJxBt"
TRANSACTION = bytes.fromhex("b7e7a701bc34d686fa87dfae")
REQUEST = bytes.fromhex(  # RFC 5769 2.1
    "000100582112a442b7e7a701bc34d686fa87dfae"
    "802200105354554e207465737420636c69656e74"
    "002400046e0001ff"
    "80290008932ff9b151263b36"
    "000600096576746a3a68367659202020"
    "000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2"
    "80280004e57a3bcf"
)
RESPONSE_IPV4 = bytes.fromhex(  # RFC 5769 2.2
    "0101003c2112a442b7e7a701bc34d686fa87dfae"
    "8022000b7465737420766563746f7220"
    "002000080001a147e112a643"
    "000800142b91f599fd9e90c38c7489f92af9ba53f06be7d7"
    "80280004c07d4c96"
)
RESPONSE_IPV6 = bytes.fromhex(  # RFC 5769 2.3
    "010100482112a442b7e7a701bc34d686fa87dfae"
    "8022000b7465737420766563746f7220"
    "002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9"
    "00080014a382954e4be67bf11784c97c8292c275bfe3ed41"
    "80280004c8fb0b4c"
)


def test_the_request_of_rfc_5769() -> None:
    message = StunMessage.parse(REQUEST)
    assert (message.method, message.message_class) == (BINDING, StunClass.REQUEST)
    assert message.transaction_id == TRANSACTION
    assert message.attributes == (
        Software("STUN test client"),
        Priority(0x6E0001FF),
        IceControlled(0x932FF9B151263B36),
        Username("evtj:h6vY"),
    )
    assert message.has_fingerprint
    assert message.authenticated_by(PASSWORD)
    assert not message.authenticated_by(PASSWORD + b"x")


@pytest.mark.parametrize(
    ("data", "address"),
    [
        (RESPONSE_IPV4, XorMappedAddress("192.0.2.1", 32853)),
        (RESPONSE_IPV6, XorMappedAddress("2001:db8:1234:5678:11:2233:4455:6677", 32853)),
    ],
)
def test_the_responses_of_rfc_5769(data: bytes, address: XorMappedAddress) -> None:
    message = StunMessage.parse(data)
    assert message.message_class is StunClass.SUCCESS
    assert message.first(XorMappedAddress) == address
    assert message.authenticated_by(PASSWORD)


def test_one_changed_byte_is_noticed() -> None:
    fingerprint_header = range(len(REQUEST) - 8, len(REQUEST) - 6)  # there it becomes another attribute
    for at in set(range(len(REQUEST))) - set(fingerprint_header):
        bad = REQUEST[:at] + bytes((REQUEST[at] ^ 1,)) + REQUEST[at + 1 :]
        with pytest.raises(StunError):
            StunMessage.parse(bad)


def test_without_fingerprint_the_integrity_still_guards_what_it_covers() -> None:
    message = StunMessage(BINDING, StunClass.REQUEST, TRANSACTION, (Username("a:b"), UseCandidate()))
    data = message.to_bytes(b"key", fingerprint=False)
    assert StunMessage.parse(data).authenticated_by(b"key")
    changed = data.replace(b"a:b", b"a:c")
    assert not StunMessage.parse(changed).authenticated_by(b"key")
    assert not StunMessage.parse(message.to_bytes()).authenticated_by(b"key")


def test_attributes_behind_the_integrity_are_ignored() -> None:
    data = StunMessage(BINDING, StunClass.REQUEST, TRANSACTION, (Username("a:b"),)).to_bytes(
        b"key", fingerprint=False
    )
    forged = data + bytes.fromhex("00250000")
    forged = forged[:2] + (len(forged) - 20).to_bytes(2, "big") + forged[4:]
    message = StunMessage.parse(forged)
    assert message.authenticated_by(b"key")
    assert message.first(UseCandidate) is None


def test_an_unknown_required_attribute_can_be_named() -> None:
    attributes = (UnknownAttribute(0x7F01, b"abc"), UnknownAttribute(0xC057, b"\x00"))
    message = StunMessage.parse(StunMessage(BINDING, StunClass.REQUEST, TRANSACTION, attributes).to_bytes())
    assert message.attributes == attributes
    assert message.unknown_required() == (0x7F01,)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "at least 20"),
        (REQUEST[:30], "length field"),
        (b"\x80" + REQUEST[1:], "first two bits"),
        (REQUEST[:4] + b"\0\0\0\0" + REQUEST[8:], "magic cookie"),
        (bytes.fromhex("000100042112a442b7e7a701bc34d686fa87dfae00060010"), "0x0006 is longer"),
        (bytes.fromhex("000100082112a442b7e7a701bc34d686fa87dfae0024000200000000"), "PRIORITY"),
        (bytes.fromhex("0101000c2112a442b7e7a701bc34d686fa87dfae002000080003a147e112a643"), "family 3"),
    ],
)
def test_malformed_messages_say_what_is_wrong(data: bytes, complaint: str) -> None:
    with pytest.raises(StunError, match=complaint):
        StunMessage.parse(data)


u32, u64, port = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.integers(0, 65535)
host = st.ip_addresses().map(str)
attribute: st.SearchStrategy[StunAttribute] = st.one_of(
    st.builds(Username, st.text(max_size=100)),
    st.builds(Software, st.text(max_size=40)),
    st.builds(Priority, u32),
    st.builds(UseCandidate),
    st.builds(IceControlled, u64),
    st.builds(IceControlling, u64),
    st.builds(XorMappedAddress, host, port),
    st.builds(MappedAddress, host, port),
    st.builds(ErrorCode, st.integers(300, 699), st.text(max_size=40)),
    st.builds(UnknownAttributes, st.lists(st.integers(0, 65535), max_size=8).map(tuple)),
    st.builds(UnknownAttribute, st.integers(0x8100, 0xFFFF), st.binary(max_size=30)),
)


@given(
    st.integers(0, 0xFFF),
    st.sampled_from(StunClass),
    st.binary(min_size=12, max_size=12),
    st.lists(attribute, max_size=6).map(tuple),
    st.none() | st.binary(min_size=1, max_size=40),
)
def test_what_is_printed_is_parsed(
    method: int, kind: StunClass, transaction: bytes, attributes: tuple[StunAttribute, ...], key: bytes | None
) -> None:
    message = StunMessage(method, kind, transaction, attributes)
    data = message.to_bytes(key)
    assert looks_like_stun(data)
    parsed = StunMessage.parse(data)
    assert parsed == message
    assert parsed.authenticated_by(key or b"") is (key is not None)


@given(st.binary(max_size=120))
def test_any_bytes_are_a_message_or_a_stun_error(body: bytes) -> None:
    for data in (body, REQUEST[:2] + len(body).to_bytes(2, "big") + REQUEST[4:20] + body):
        try:
            message = StunMessage.parse(data)
        except StunError:
            continue
        assert message.to_bytes()
