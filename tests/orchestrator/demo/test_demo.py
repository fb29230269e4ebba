"""The demonstration: what it seeds and keeps, how it looks at pictures and wires, and a whole short check."""

from __future__ import annotations

import contextlib
import json
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config.settings import Settings
from foundation.audit import verify
from foundation.authorisation import Role
from foundation.database import Database
from foundation.passwords import Passwords
from foundation.repositories.sites import SiteRepository
from foundation.repositories.users import UserRepository
from media.picture import Picture
from orchestrator.control import StartFailure
from orchestrator.demo.glimpse import Glimpse, coarse, spectrum
from orchestrator.demo.node import Ports, configure, demo_folder, free_block
from orchestrator.demo.seed import ACCOUNTS, LINKS, SITES, read_secrets, seed, write_secrets
from orchestrator.demo.show import wide
from orchestrator.demo.terminal.footage import COLOURS, Footage, to_yuv
from orchestrator.demo.watch import Limit, Look, Side, Watch
from orchestrator.demo.wire import IP_UDP, SlidingSecond, WireTap, ip_bytes
from tests.peers.ports import PortBlock, occupied
from tests.peers.requirement import requires
from tests.peers.waiting import until_true

RED, GREEN = COLOURS["red"], COLOURS["green"]


@pytest.fixture
def ports() -> Iterator[Ports]:
    with PortBlock() as block:
        sip = block.take(2)  # with its TLS
        yield Ports(block.take(), sip, block.take(), block.take(), block.take())


@pytest.fixture
def settings(tmp_path: Path, ports: Ports) -> Settings:
    return configure(tmp_path, "127.0.0.1", ports).settings


# --- folder and configuration ---------------------------------------------------------------------------


def test_a_second_run_in_the_same_folder_says_who_runs(tmp_path: Path) -> None:
    with demo_folder(tmp_path), pytest.raises(StartFailure, match=r"runs already .* \(process \d+\)"):
        demo_folder(tmp_path).__enter__()
    with demo_folder(tmp_path):
        pass  # the first one has ended


def test_usual_ports_are_taken_where_they_are_free(tmp_path: Path, ports: Ports) -> None:
    plan = configure(tmp_path, "127.0.0.1", ports)
    network = plan.settings.networks[0]
    edge = plan.settings.edge.port
    assert (plan.settings.http.port, network.sip.udp, network.webrtc_port, edge, network.rtsp) == ports
    assert plan.notes == ()
    assert plan.sip_uri("800800") == f"sip:800800@127.0.0.1:{ports.sip}"


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_another_port_is_taken_and_said(tmp_path: Path, ports: Ports, kind: socket.SocketKind) -> None:
    with occupied(ports.sip, kind):
        plan = configure(tmp_path, "127.0.0.1", ports)
    assert plan.sip_port != ports.sip
    assert plan.notes == (f"port {ports.sip} is taken: SIP is on {plan.sip_port}",)


def test_a_block_of_ports_is_free() -> None:
    first, last = free_block("127.0.0.1", 6)
    assert last == first + 5
    for port in range(first, last + 1):
        with socket.socket(type=socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", port))


# --- seed -----------------------------------------------------------------------------------------------


def test_passwords_are_kept_and_nobody_else_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "accounts.json"
    first = read_secrets(path)
    write_secrets(path, first)
    assert read_secrets(path) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(set(first.users.values())) == len(ACCOUNTS)
    assert first.pin.isdecimal()
    assert len(first.pin) == 6


def test_a_spoilt_file_of_passwords_is_named(tmp_path: Path) -> None:
    path = tmp_path / "accounts.json"
    path.write_text("{")
    with pytest.raises(StartFailure, match=r"accounts\.json cannot be used"):
        read_secrets(path)


async def test_seeding_twice_changes_nothing_and_sets_shown_passwords_back(
    tmp_path: Path, settings: Settings
) -> None:
    secrets = await seed(settings, read_secrets(tmp_path / "accounts.json"))
    assert await seed(settings, secrets) == secrets
    database, passwords = Database(settings.database_url), Passwords()
    try:
        async with database.transaction() as tx:
            sites = SiteRepository(tx)
            assert {site.id for site in await sites.all()} == {site.id for site in SITES}
            assert set(await sites.links()) == set(LINKS)
            users = {user.name: user for user in await UserRepository(tx).all()}
            assert {role for user in users.values() for role in user.roles} == set(Role)
            viewer = users["viewer"]
            other = await passwords.hash("of-another-day-77")
            await UserRepository(tx).set_password(viewer.id, other, viewer.created_at)
        secrets = await seed(settings, secrets)
        async with database.reading() as tx:
            viewer_now = await UserRepository(tx).get(viewer.id)
        assert await verify(database)
        assert viewer_now is not None
        assert (await passwords.verify(viewer_now.password_hash, secrets.users["viewer"])).correct
    finally:
        passwords.close()
        await database.aclose()


# --- looking and listening ------------------------------------------------------------------------------


def test_a_colour_is_found_in_whichever_tile_it_is() -> None:
    picture = Picture.blank(640, 352)
    tile = Picture.blank(160, 96, to_yuv(GREEN))
    picture.y[48:144, 320:480] = tile.y
    picture.u[24:72, 160:240] = tile.u
    picture.v[24:72, 160:240] = tile.v
    glimpse = Glimpse(1, (640, 352), coarse(picture))
    assert glimpse.share(GREEN) == pytest.approx(160 * 96 / (640 * 352), abs=0.002)
    assert glimpse.share(RED) == 0.0


def test_noise_does_not_hide_a_colour() -> None:
    picture = Footage(RED, 320, 176, detail=40).picture(3)
    assert Glimpse(1, None, coarse(picture)).share(RED) > 0.85


@pytest.mark.parametrize("rate", [8_000, 48_000])
def test_a_tone_is_found_at_its_level(rate: int) -> None:
    times = np.arange(rate) / rate
    sound = spectrum(np.rint(np.sin(2 * np.pi * 1000 * times) * 0.25 * 32767).astype(np.int16), rate)
    glimpse = Glimpse(1, sound=sound)
    assert glimpse.level(1000) == pytest.approx(-12.0, abs=0.5)
    assert glimpse.level(440) is None


def test_chinese_fills_two_columns() -> None:
    assert wide("会场 room", 12) == "会场 room" + " " * 3


# --- the wire -------------------------------------------------------------------------------------------


def rtp(sequence: int, size: int, source: int = 0x1234_5678) -> bytes:
    return struct.pack("!BBHII", 0x80, 96, sequence, 1, source) + bytes(size - 12)


def test_one_packet_counts_once() -> None:
    assert ip_bytes(rtp(7, 1200), 1200) == 1200 + IP_UDP
    assert ip_bytes(b"\x00\x01" + bytes(90), 92) == 92 + IP_UDP


@pytest.mark.parametrize("first", [7, 0xFFFF])
def test_segments_of_one_write_count_each_with_its_headers(first: int) -> None:
    burst = b"".join(rtp((first + n) & 0xFFFF, 1000) for n in range(3)) + rtp((first + 3) & 0xFFFF, 300)
    assert ip_bytes(burst[:2048], len(burst)) == 3300 + 4 * IP_UDP


def test_the_fullest_second_slides() -> None:
    second = SlidingSecond()
    for at, size in ((0.0, 10), (0.6, 20), (1.2, 30), (1.5, 5), (3.0, 40)):
        second.add(at, size)
    assert (second.peak, second.peak_at, second.total) == (55, 1.5, 105)


@contextlib.contextmanager
def three_sockets() -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in range(3)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        yield sockets


@requires("root")
async def test_the_tap_sees_both_ways_and_nobody_else() -> None:
    with three_sockets() as (ours, theirs, stranger):
        port = theirs.getsockname()[1]
        with WireTap({"room": (port, port)}) as tap:
            wire = tap.wires["room"]
            for _ in range(3):
                ours.sendto(rtp(1, 500), theirs.getsockname())
            ours.sendto(rtp(1, 900), stranger.getsockname())
            theirs.sendto(rtp(1, 200), ours.getsockname())
            await until_true(lambda: wire.from_site.total > 0, "the answer on the wire", 5.0)
    assert wire.to_site.total == 3 * (500 + IP_UDP)
    assert wire.from_site.total == 200 + IP_UDP
    assert tap.dropped == 0


# --- the verdict ----------------------------------------------------------------------------------------


def side(
    name: str, *, share: float = 0.2, level: float | None = -12.0, peaks: tuple[int, int] | None = None
) -> Side:
    async def nothing() -> Glimpse:
        return Glimpse(0)

    looks = [Look(float(n), 25 * (n + 1), (1280, 720), share, 0.2, level, None) for n in range(10)]
    return Side(name, nothing, name, 440.0, GREEN, 1000.0, lambda: peaks, looks)


def watch(one: Side, two: Side, peaks: dict[str, tuple[int, int]]) -> Watch:
    limits = {name: Limit(f"site-{name}", 3_000_000, 2_000_000, 3_000_000) for name in ("room", "browser")}
    return Watch((one, two), limits, None, report={"wires": []}, peaks=peaks)


FINE = {"room": (250_000, 375_000), "browser": (1, 1)}


def test_all_holds() -> None:
    seen = watch(side("room"), side("browser"), FINE).verdict()
    assert len(seen) == 8
    assert all(seen.values())
    assert side("room").facts()["fps"] == 25.0


@pytest.mark.parametrize(
    ("one", "peaks", "broken"),
    [
        (side("room", share=0.01), FINE, "room decoded frames of the browser's colour"),
        (side("room", level=None), FINE, "room heard the browser's tone"),
        (side("room"), {**FINE, "room": (250_001, 1)}, "room's site within budget, by the worker"),
        (side("room"), {**FINE, "room": (1, 375_001)}, "room's site within budget, by the worker"),
        (side("room"), {"browser": (1, 1)}, "room's site within budget, by the worker"),
        (side("room", peaks=(250_001, 1)), FINE, "room's site within budget, by its own count"),
    ],
)
def test_what_does_not_hold_is_named(one: Side, peaks: dict[str, tuple[int, int]], broken: str) -> None:
    verdict = watch(one, side("browser"), peaks).verdict()
    assert [what for what, holds in verdict.items() if not holds] == [broken]


# --- the whole ------------------------------------------------------------------------------------------


def test_a_short_check_with_terminals_of_our_own(tmp_path: Path, ports: Ports) -> None:
    """A node, two terminals, every fact; then the same folder again, and nothing left running."""
    folder = tmp_path / "demo"
    script = "import sys; from pathlib import Path; from orchestrator.demo import run; "
    script += "from orchestrator.demo.node import Ports; "
    script += f"sys.exit(run.run(run.Options(True, Path({str(folder)!r}), seconds=8, ports={ports!r}, "
    script += "without_peers=True)))"
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    facts: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    assert run.returncode == 0, f"{facts['failed']}\n{run.stderr}"
    assert facts["ok"] is True
    assert facts["browser"] == "absent"
    assert facts["terminal"]["frames_decoded"] > 0
    assert facts["room"]["heard_tone"]["mean_dbfs"] > -30
    assert facts["wires"]["room"]["by_itself"]["peak_to_site_bps"] <= 3_000_000
    assert facts["wires"]["terminal"]["site"] == "wuming-mine"
    assert facts["meeting"]["worker_pid"] == facts["workers"]["media-0"] == facts["pids"]["media-0"]
    assert not Path(f"/proc/{facts['pids']['main']}").exists()
    assert facts["encoders"]
    shown = read_secrets(folder / "accounts.json")
    assert all(password in run.stdout for password in shown.users.values())
    assert shown.pin in run.stdout
