"""Files and variables become values, or one line that names the file or variable and the key."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from config.loading import dump, load, restore
from config.settings import ConfigurationError, Listener, Secret, Settings

EXAMPLES = sorted((Path(__file__).parents[2] / "config").glob("*.yaml"))
MINIMAL = "node: {id: cenxi, name: 岑溪}\nnetworks: [{name: lan, bind: 127.0.0.1}]\n"


def loaded(folder: Path, text: str, environ: dict[str, str] | None = None) -> Settings:
    path = folder / "node.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path, environ or {})


def line(folder: Path, text: str, environ: dict[str, str] | None = None) -> str:
    """The error, without the folder in front."""
    with pytest.raises(ConfigurationError) as caught:
        loaded(folder, text, environ)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{folder}/", "")


def test_there_is_an_example_of_every_level() -> None:
    levels = {load(path, {}).node.level for path in EXAMPLES}
    assert levels == {"nation", "province", "city", "county"}
    assert {path.stem for path in EXAMPLES} == {"national", "province", "city", "county"}


def test_the_examples_run_side_by_side() -> None:
    nodes = [load(path, {}) for path in EXAMPLES]
    for one, other in itertools.combinations(nodes, 2):
        assert one.data != other.data
        for mine, theirs in itertools.product(one.listeners(), other.listeners()):
            assert not mine.overlaps(theirs), (one.node.id, str(mine), other.node.id, str(theirs))


def test_defaults_are_those_of_the_outside_interface(tmp_path: Path) -> None:
    settings = loaded(tmp_path, MINIMAL)
    network = settings.network("lan")
    assert (settings.http.port, network.sip.udp, network.sip.tcp, network.sip.tls) == (8443, 5060, 5060, 5061)
    assert (network.rtp_ports, network.webrtc_port, network.mtu) == ((40000, 48999), 49000, 1500)
    assert (network.dscp.audio, network.dscp.video, network.dscp.signalling) == (46, 34, 24)
    assert network.advertised == "127.0.0.1"
    assert settings.guests.budget == 1_000_000
    assert settings.browser_network is network
    assert settings.webrtc_port(network, 2) == 49002
    assert settings.data == Path.cwd() / "data"
    assert settings.database_url == f"sqlite+aiosqlite:///{Path.cwd()}/data/anshi.db"


def test_bfcp_is_beside_sip_where_nothing_else_is(tmp_path: Path) -> None:
    def ports(network: str) -> tuple[int | None, int | None]:
        text = f"node: {{id: a, name: b}}\nnetworks: [{{name: lan, bind: 127.0.0.1{network}}}]\n"
        settings = loaded(tmp_path, text)
        lan = settings.network("lan")
        return settings.bfcp_port(lan, "udp"), settings.bfcp_port(lan, "tcp")

    assert ports("") == (5070, 5070)
    assert ports(", sip: {udp: 6060, tcp: 6061, tls: 6070}") == (6070, 6071)
    assert ports(", sip: {udp: 39990, tcp: null, tls: null}") == (49001, 40000)  # past media and browsers
    assert ports(", bfcp: {udp: 3238, tcp: 3239}") == (3238, 3239)
    assert ports(", bfcp: {tcp: 3239}") == (5070, 3239)
    assert ports(", bfcp: null") == (None, None)
    assert ports(", sip: {udp: null, tcp: null, tls: null}") == (None, None)
    assert ports(", sip: {udp: 65530, tcp: null, tls: null}") == (None, None)


def test_a_bfcp_port_that_something_else_has_is_named(tmp_path: Path) -> None:
    text = MINIMAL.replace("}]", ", bfcp: {tcp: 5061}}]")
    assert line(tmp_path, text) == (
        "node.yaml: networks[0].bfcp.tcp: 127.0.0.1:5061/tcp is also taken by networks[0].sip.tls"
    )


def test_the_data_option_wins(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    path.write_text(MINIMAL + "data: /srv/one\n", encoding="utf-8")
    assert load(path, {}).data == Path("/srv/one")
    assert load(path, {"ANSHI_DATA": "/srv/two"}).data == Path("/srv/two")
    assert load(path, {"ANSHI_DATA": "/srv/two"}, data=Path("/srv/three")).data == Path("/srv/three")


@pytest.mark.parametrize(
    ("written", "value"),
    [("3M", 3_000_000), ("512k", 512_000), ("1.5M", 1_500_000), ("2000000", 2_000_000), ("1Gbit/s", 10**9)],
)
def test_rates(tmp_path: Path, written: str, value: int) -> None:
    budget = loaded(tmp_path, MINIMAL + f"guests: {{budget: {written}}}\n").guests.budget
    assert (type(budget), budget) == (int, value)
    assert loaded(tmp_path, MINIMAL, {"ANSHI_GUESTS__BUDGET": written}).guests.budget == value


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("postgresql://u:p@h/d", "postgresql+asyncpg://u:p@h/d"),
        ("postgres://h/d", "postgresql+asyncpg://h/d"),
        ("sqlite:////srv/a.db", "sqlite+aiosqlite:////srv/a.db"),
    ],
)
def test_database_urls_get_their_asynchronous_driver(tmp_path: Path, url: str, driver: str) -> None:
    assert loaded(tmp_path, MINIMAL, {"ANSHI_DATABASE__URL": url}).database_url == driver


def test_variables_lie_over_the_file(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path,
        MINIMAL + "http: {port: 9000}\n",
        {
            "ANSHI_HTTP__PORT": "8543",
            "ANSHI_HTTP__TRUSTED_PROXIES": "[10.0.0.0/8, 192.0.2.1]",
            "ANSHI_NODE__NAME": "123",
            "ANSHI_NETWORKS__0__SIP__UDP": "5070",
            "ANSHI_NETWORKS__0__SIP__TLS": "null",
            "ANSHI_NETWORKS__1__NAME": "internet",
            "ANSHI_NETWORKS__1__BIND": "127.0.0.2",
            "ANSHI_MEDIA__SPARE": "false",
            "ANSHI_PORT": "tcp://10.0.0.1:8443",  # what Kubernetes adds for a service named anshi
            "PATH": "/bin",
        },
    )
    assert settings.http.port == 8543
    assert settings.http.trusted_proxies == ("10.0.0.0/8", "192.0.2.1")
    assert settings.node.name == "123"
    assert (settings.networks[0].sip.udp, settings.networks[0].sip.tls) == (5070, None)
    assert settings.network("internet").bind == "127.0.0.2"
    assert settings.media.spare is False


@pytest.mark.parametrize(
    ("added", "message"),
    [
        ("http: {prot: 1}", "node.yaml: unknown key http.prot (did you mean port?)"),
        ("htp: {}", "node.yaml: unknown key htp (did you mean http?)"),
        ("http: {port: many}", "node.yaml: http.port: expected a whole number, got text"),
        ("http: {port: 99999}", "node.yaml: http.port: expected a whole number <= 65535"),
        ("http: 5", "node.yaml: http: expected keys and values, got a whole number"),
        ("http: {bind: localhost}", "node.yaml: http.bind: 'localhost' is not an IP address"),
        ("http: {network: wan}", "node.yaml: http.network: unknown network 'wan' (known: lan)"),
        ("http: {tls: false}", "node.yaml: http.tls: without TLS, http.trusted_proxies must be given"),
        (
            "http: {key: k}",
            "node.yaml: http.certificate: certificate and key are given together or not at all",
        ),
        (
            "http: {trusted_proxies: [a]}",
            "node.yaml: http.trusted_proxies[0]: 'a' does not appear to be an IPv4 or IPv6 network",
        ),
        (
            "http: {external_url: anshi}",
            "node.yaml: http.external_url: 'anshi' is not an http or https address",
        ),
        ("media: {workers: 1.5}", "node.yaml: media.workers: expected a whole number, got a number"),
        ("logging: {level: loud}", "node.yaml: logging.level: invalid enum value 'loud'"),
        ("guests: {budget: fast}", "node.yaml: guests.budget: 'fast' is not a rate such as 512k, 3M or 1G"),
        ("guests: {budget: true}", "node.yaml: guests.budget: expected a whole number, got true or false"),
        ("sessions: {idle: 9h}", "node.yaml: sessions.idle: expected a number, got text"),
        (
            "sessions: {idle: 99999, absolute: 1}",
            "node.yaml: sessions.idle: is longer than sessions.absolute",
        ),
        (
            "database: {url: 'mysql://h/d'}",
            "node.yaml: database.url: 'mysql' is neither sqlite nor postgresql",
        ),
        ("redis: {url: 'http://h'}", "node.yaml: redis.url: expected redis://, rediss:// or unix://"),
        (
            "turn: {urls: ['turn:h']}",
            "node.yaml: turn.secret: turn:h needs the secret shared with that server",
        ),
        ("data: 5", "node.yaml: data: expected a path, got 5"),
        ("node: {id: again}", "node.yaml:3: not valid YAML: key 'node' twice"),
        ("5: 6", "node.yaml:3: not valid YAML: key 5 is not text"),
        ("http: [", "node.yaml:4: not valid YAML: expected the node content, but found '<stream end>'"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, added: str, message: str) -> None:
    assert line(tmp_path, f"{MINIMAL}{added}\n") == message


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("bind: 127.0.0.1, rtp_ports: [5000, 4000]", "rtp_ports: the first port 5000 is above the last 4000"),
        (
            "bind: 127.0.0.1, sip: {certificate_authority: /no/ca.pem}",
            "sip.certificate_authority: /no/ca.pem is no file",
        ),
        ("bind: 127.0.0.1, sip: {redirects: [10.0.0.1/8]}", "sip.redirects[0]: 10.0.0.1/8 has host bits set"),
        ("bind: 127.0.0.1, rtp_ports: [5000, 5003]", "rtp_ports: 4 ports do not hold two calls"),
        ("bind: 0.0.0.0", "advertise: must be given when bind is 0.0.0.0"),
        ("bind: 127.0.0.1, advertise: 0.0.0.0", "advertise: peers cannot send to 0.0.0.0"),
        ("bind: 127.0.0.1, mtu: 100", "mtu: expected a whole number >= 576"),
        ("bind: 127.0.0.1, dscp: {audio: 64}", "dscp.audio: expected a whole number <= 63"),
        ("bind: 127.0.0.1, sip: {tcp: 8443}", "sip.tcp: 127.0.0.1:8443/tcp is also taken by http.port"),
        (
            "bind: 127.0.0.1, sip: {tcp: 5061}",
            "sip.tls: 127.0.0.1:5061/tcp is also taken by networks[0].sip.tcp",
        ),
        (
            "bind: 127.0.0.1, webrtc_port: 48999",
            "webrtc_port: 127.0.0.1:48999/udp is also taken by networks[0].rtp_ports",
        ),
        ("bind: 127.0.0.1, rtp_port: 1", "unknown key networks[0].rtp_port (did you mean rtp_ports?)"),
    ],
)
def test_a_mistake_in_a_network_is_one_line(tmp_path: Path, network: str, message: str) -> None:
    text = f"node: {{id: a, name: b}}\nnetworks: [{{name: lan, {network}}}]\n"
    expected = message if message.startswith("unknown") else f"networks[0].{message}"
    assert line(tmp_path, text) == f"node.yaml: {expected}"


def test_two_networks_may_not_share_an_address_and_port(tmp_path: Path) -> None:
    text = MINIMAL.replace("}]", "}, {name: wan, bind: 127.0.0.1}]")
    assert line(tmp_path, text) == (
        "node.yaml: networks[1].sip.udp: 127.0.0.1:5060/udp is also taken by networks[0].sip.udp"
    )
    assert line(tmp_path, text.replace("wan", "lan")) == (
        "node.yaml: networks[1].name: there is already a network 'lan'"
    )


def test_workers_take_a_webrtc_port_each(tmp_path: Path) -> None:
    text = MINIMAL.replace("127.0.0.1", "127.0.0.1, webrtc_port: 39999")
    assert loaded(tmp_path, text + "media: {workers: 1}\n")
    assert line(tmp_path, text + "media: {workers: 2}\n") == (
        "node.yaml: networks[0].webrtc_port: 127.0.0.1:39999-40000/udp is also taken by networks[0].rtp_ports"
    )


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("ANSHI_HTTP__PROT", "1", "ANSHI_HTTP__PROT: unknown key http.prot (did you mean port?)"),
        ("ANSHI_HTTP__PORT", "x", "ANSHI_HTTP__PORT: http.port: expected a whole number, got text"),
        ("ANSHI_HTTP__PORT__X", "1", "ANSHI_HTTP__PORT__X: http.port has no key 'x'"),
        ("ANSHI_NETWORKS__LAN__BIND", "1", "ANSHI_NETWORKS__LAN__BIND: networks has no key 'lan'"),
        ("ANSHI_NETWORKS__2__BIND", "1", "ANSHI_NETWORKS__2__BIND: there is no element 1 before element 2"),
        (
            "ANSHI_NETWORKS__0__RTP_PORTS",
            "[9, 8]",
            "ANSHI_NETWORKS__0__RTP_PORTS: networks[0].rtp_ports: the first port 9 is above the last 8",
        ),
    ],
)
def test_a_mistake_in_a_variable_names_the_variable(
    tmp_path: Path, variable: str, text: str, message: str
) -> None:
    assert line(tmp_path, MINIMAL, {variable: text}) == message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.yaml: No such file or directory\Z"):
        load(tmp_path / "none.yaml", {})
    (tmp_path / "latin.yaml").write_bytes(b"node: {name: \xe9}")
    with pytest.raises(ConfigurationError, match=r"latin\.yaml: is not UTF-8 text\Z"):
        load(tmp_path / "latin.yaml", {})
    assert line(tmp_path, "") == "node.yaml: key node is missing"
    assert line(tmp_path, "text") == "node.yaml: expected keys and values at the top, got str"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_another_process_gets_the_same_settings(path: Path) -> None:
    settings = load(
        path, {"ANSHI_TURN__SECRET": "s3cret", "ANSHI_HTTP__CERTIFICATE": "a", "ANSHI_HTTP__KEY": "b"}
    )
    again = restore(dump(settings))
    assert again == settings
    assert isinstance(again.turn.secret, Secret)
    assert isinstance(again.http.key, Path)
    assert "s3cret" not in repr(again)


def test_listeners_overlap_by_address_port_and_transport() -> None:
    one = Listener("a", "127.0.0.1", 5000, 5009, "udp")
    assert one.overlaps(Listener("b", "0.0.0.0", 5009, 5009, "udp"))
    assert one.overlaps(Listener("b", "127.0.0.1", 4000, 5000, "udp"))
    assert not one.overlaps(Listener("b", "127.0.0.2", 5000, 5000, "udp"))
    assert not one.overlaps(Listener("b", "127.0.0.1", 5010, 5010, "udp"))
    assert not one.overlaps(Listener("b", "127.0.0.1", 5000, 5000, "tcp"))
    assert str(Listener("b", "::1", 5000, 5000, "tcp")) == "[::1]:5000/tcp"
