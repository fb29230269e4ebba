"""Trunks in the settings: what makes sense, what does not, and a password that does not show."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.loading import dump, restore
from config.settings import ConfigurationError
from tests.config.test_settings import MINIMAL, loaded

TRUNK = "name: telecom, server: sbc.example.cn, username: u"


def trunks(*items: str) -> str:
    return MINIMAL + "trunks: [" + ", ".join(f"{{{item}}}" for item in items) + "]\n"


def test_a_trunk_needs_little_and_hides_its_password(tmp_path: Path) -> None:
    settings = loaded(tmp_path, trunks(TRUNK), {"ANSHI_TRUNKS__0__PASSWORD": "s3cret-word"})
    (trunk,) = settings.trunks
    assert trunk.password == "s3cret-word"
    assert "s3cret-word" not in repr(settings)
    assert (trunk.shown, trunk.home, trunk.register, trunk.sound_only) == ("u", "sbc.example.cn", True, True)
    assert restore(dump(settings)) == settings


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (["name: a b, server: x, username: u"], "trunks[0].name: letters"),
        ([TRUNK, TRUNK], "trunks[1].name: there is already a trunk 'telecom'"),
        (["name: t, server: 'sip:x', username: u"], "trunks[0].server: 'sip:x' is neither"),
        (["name: t, server: x"], "trunks[0].identity: is needed where there is no username"),
        (["name: t, server: x, identity: '0771'"], "trunks[0].username: is needed to register"),
        ([TRUNK + ", identity: 'a b'"], "trunks[0].identity: 'a b' cannot be the user"),
        ([TRUNK + ", prefixes: ['86-771']"], "trunks[0].prefixes[0]: '86-771' is no beginning of a number"),
        ([TRUNK + ", sources: [10.0.0.300]"], "trunks[0].sources[0]: "),
        ([TRUNK + ", srtp: offered"], "trunks[0].srtp: keys go with transport tls only"),
        ([TRUNK + ", network: moon"], "trunks[0].network: unknown network 'moon'"),
        ([TRUNK + ", certificate_authority: /nowhere/ca.pem"], "trunks[0].certificate_authority: "),
        (
            [TRUNK + ", certificate_authority: /dev/null, tls_verify: false"],
            "trunks[0].tls_verify: false leaves certificate_authority without use",
        ),
        ([TRUNK + ", expires: 5"], "trunks[0].expires: "),
    ],
)
def test_a_mistake_in_a_trunk_is_one_line(tmp_path: Path, items: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError) as wrong:
        loaded(tmp_path, trunks(*items))
    assert message in str(wrong.value)
    assert "\n" not in str(wrong.value)


def test_a_trunk_needs_its_transport_in_its_network(tmp_path: Path) -> None:
    text = trunks(TRUNK + ", transport: tls").replace("bind: 127.0.0.1", "bind: 127.0.0.1, sip: {tls: null}")
    with pytest.raises(ConfigurationError, match="network 'lan' has no SIP over tls"):
        loaded(tmp_path, text)
