"""What operators type for a camera's address."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_relay.camera_address import CameraAddress, WrongAddress


def test_the_password_is_moved_out() -> None:
    address = CameraAddress.parse(" rtsp://admin:p%40ss@192.0.2.7:8554/ch1?a=b ")
    assert address == CameraAddress("rtsp://192.0.2.7:8554/ch1?a=b", "192.0.2.7", 8554, "admin", "p@ss")
    assert "p@ss" not in repr(address)
    assert CameraAddress.parse("RTSP://camera.local") == CameraAddress(
        "rtsp://camera.local/", "camera.local", 554
    )
    assert CameraAddress.parse("rtsp://[2001:db8::1]:554/1").host == "2001:db8::1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("http://192.0.2.7/ch1", "only rtsp:// addresses are taken, not http://"),
        ("rtsps://192.0.2.7/ch1", "not rtsps://"),
        ("192.0.2.7/ch1", "only rtsp:// addresses are taken (rtsp://host:port/path)"),
        ("rtsp:192.0.2.7", "only rtsp://"),
        ("rtsp:///ch1", "no host"),
        ("rtsp://192.0.2.7:99999/", "[Pp]ort"),
        ("rtsp://192.0.2.7:x/", "[Pp]ort"),
        ("rtsp://192.0.2.7/a b", "space"),
        ("rtsp://192.0.2.7/a\r\nX: y", "space"),
        ("rtsp://[::1/", "IPv6"),
        ("rtsp://192.0.2.7/" + "x" * 500, "longer than 500"),
    ],
)
def test_what_is_wrong_is_said(text: str, words: str) -> None:
    pattern = words if "[" in words else words.replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(WrongAddress, match=pattern):
        CameraAddress.parse(text)


@given(st.text(max_size=60).map(lambda text: "rtsp://" + text) | st.text(max_size=60))
def test_anything_is_an_address_or_wrong(text: str) -> None:
    try:
        address = CameraAddress.parse(text)
    except WrongAddress:
        return
    assert "@" not in address.url.removeprefix("rtsp://").partition("/")[0]
    assert CameraAddress.parse(address.url).url == address.url
