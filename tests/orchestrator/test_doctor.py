"""What the doctor finds, on a healthy node and on ill ones."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from config.settings import Database as DatabaseSettings
from config.settings import Http, Media, Network, Node, Redis, Secret, Settings, Sip
from foundation.audit import AuditEntry, AuditTrail
from foundation.clock import SystemClock
from foundation.database import Database
from foundation.migration import known_revision, migrate
from foundation.repositories.sites import Site, SiteRepository, sip_account
from foundation.secrets import SecretBox, add_key, make_key_file
from orchestrator import cli, doctor
from orchestrator.doctor import Check, State, examine
from orchestrator.preflight import data_folder
from tests.peers.ports import PortBlock, occupied


@pytest.fixture
def ports() -> Iterator[PortBlock]:
    with PortBlock() as block:
        yield block


@pytest.fixture
def settings(tmp_path: Path, ports: PortBlock) -> Settings:
    sip = Sip(udp=ports.take(), tcp=ports.take(), tls=None)
    return Settings(
        node=Node(id="cenxi", name="岑溪"),
        data=tmp_path,
        http=Http(bind="127.0.0.1", port=ports.take()),
        networks=(Network(name="lan", bind="127.0.0.1", sip=sip, webrtc_port=ports.take(2)),),
        media=Media(workers=2),
    )


async def lines(settings: Settings | None) -> dict[str, Check]:
    """The checks by subject; the last one where there are several."""
    return {check.subject: check for check in await examine(settings)}


async def audited(settings: Settings) -> Database:
    """A database with three rows of audit."""
    await migrate(settings.database_url)
    database = Database(settings.database_url)
    for number in range(3):
        async with database.transaction() as tx:
            await AuditTrail(tx, SystemClock()).append(AuditEntry("liu", "sign-in", f"user:{number}"))
    return database


async def test_keys_that_do_not_open_what_is_stored_prevent_a_start(settings: Settings) -> None:
    await migrate(settings.database_url, key_file=settings.key_file)
    box = SecretBox.load(settings.key_file)
    database = Database(settings.database_url, secrets=box)
    async with database.transaction() as tx:
        await SiteRepository(tx).save(Site("nanning", "南宁", "administration"))
        await SiteRepository(tx).save_sip_account(sip_account("room", "gx", "s3cret", "nanning"))
    await database.aclose()
    check = (await lines(settings))["secrets"]
    assert (check.state, "opens all 2;" in check.detail) == (State.OK, True)
    settings.key_file.chmod(0o644)
    check = (await lines(settings))["secrets"]
    assert (check.state, "mode 0644" in check.detail) == (State.LACKING, True)
    settings.key_file.chmod(0o600)
    add_key(settings.key_file)
    check = (await lines(settings))["secrets"]
    assert (check.state, "2 need an older key" in check.detail) == (State.OK, True)
    settings.key_file.unlink()
    for state in ("is missing", "is not the one the database was sealed with"):
        check = (await lines(settings))["secrets"]
        assert (check.prevents, str(settings.key_file) in check.detail, state in check.detail) == (True,) * 3
        make_key_file(settings.key_file)


async def test_a_healthy_node_prevents_nothing(settings: Settings) -> None:
    database = await audited(settings)
    await database.aclose()
    checks = await lines(settings)
    assert [str(check) for check in checks.values() if check.prevents] == []
    assert checks["codec H.264"].detail == "encodes and decodes"
    assert checks["codec VP8"].detail == "encodes and decodes"
    assert checks["database"].detail.endswith(f"anshi.db, schema {known_revision()}")
    assert checks["audit"].detail == "the chain of 3 rows is unbroken"
    assert str(settings.http.port) in checks["ports"].detail
    assert checks["certificate"].state is State.LACKING
    assert "av " in checks["libraries"].detail


async def test_the_machine_alone_can_be_examined(capsys: pytest.CaptureFixture[str]) -> None:
    checks = await lines(None)
    assert {"Python", "libraries", "codec Opus", "UDP segmentation", "font", "clock"} <= set(checks)
    assert "ports" not in checks
    assert str(Check("clock", State.OK, "now")) == "ok       clock                  now"


async def test_every_port_in_use_is_named(settings: Settings) -> None:
    webrtc = settings.networks[0].webrtc_port
    assert webrtc is not None
    with occupied(settings.http.port), occupied(webrtc + 1, socket.SOCK_DGRAM):
        found = [check.detail for check in await examine(settings) if check.subject == "ports"]
    assert found == [
        f"http.port: 127.0.0.1:{settings.http.port}/tcp is in use by another program",
        f"networks[0].webrtc_port: 127.0.0.1:{webrtc + 1}/udp is in use by another program",
    ]


async def test_the_ports_of_a_running_node_are_its_own(settings: Settings) -> None:
    with data_folder(settings.data), occupied(settings.http.port):
        check = (await lines(settings))["ports"]
    assert (check.state, check.detail) == (
        State.OK,
        f"the node is running (process {os.getpid()}) and has them",
    )
    assert doctor.running_node(settings.data) is None


async def test_an_address_that_is_not_ours_is_named(tmp_path: Path) -> None:
    network = Network(name="lan", bind="192.0.2.1", webrtc_port=None, sip=Sip(tcp=None, tls=None))
    settings = Settings(node=Node(id="a", name="b"), data=tmp_path, networks=(network,))
    found = [check.detail for check in doctor.ports(settings)]
    assert "networks[0].sip.udp: 192.0.2.1 is not an address of this machine" in found


async def test_an_altered_audit_row_is_found(settings: Settings) -> None:
    database = await audited(settings)
    async with database.transaction() as tx:
        await tx.execute(text("UPDATE audit SET actor = 'wang' WHERE sequence = 2"))
    await database.aclose()
    check = (await lines(settings))["audit"]
    assert (check.state, check.detail) == (State.FAILED, "the chain is broken at row 2: row 2 was altered")


async def test_a_newer_schema_and_no_database_yet(settings: Settings) -> None:
    assert (await lines(settings))["database"].detail.endswith("anshi.db will be made at the first start")
    database = await audited(settings)
    async with database.transaction() as tx:
        await tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await database.aclose()
    check = (await lines(settings))["database"]
    assert check.state is State.FAILED
    assert f"has schema 9999; this version knows only up to {known_revision()}" in check.detail


async def test_services_that_are_not_there(tmp_path: Path, ports: PortBlock) -> None:
    port = ports.take(2)
    settings = Settings(
        node=Node(id="a", name="b"),
        data=tmp_path,
        networks=(Network(name="lan", bind="127.0.0.1", webrtc_port=None),),
        database=DatabaseSettings(url=Secret(f"postgresql://anshi:secret@127.0.0.1:{port}/anshi")),
        redis=Redis(url=Secret(f"redis://:secret@127.0.0.1:{port + 1}/0")),
    )
    (database,) = await doctor.database(settings)
    assert database.state is State.FAILED
    assert "cannot be reached" in database.detail
    (redis,) = await doctor.redis(settings)
    assert redis.state is State.LACKING
    assert "cannot be reached" in redis.detail
    assert "secret" not in f"{database}{redis}"


def test_a_font_without_chinese_letters_will_not_do(tmp_path: Path, settings: Settings) -> None:
    import msgspec

    none = msgspec.structs.replace(settings, font=tmp_path / "none.ttf")
    assert doctor.font(none).state is State.FAILED
    assert "none.ttf cannot be used" in doctor.font(none).detail


async def test_a_codec_that_is_missing_or_a_check_that_breaks_is_a_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken() -> Iterator[Check]:
        yield doctor.ok("first", "fine")
        raise RuntimeError("broken\ncheck")

    monkeypatch.setattr(doctor, "MACHINE", {"broken": broken})
    assert str((await examine(None))[0]).split(None, 2) == ["FAILED", "broken", "RuntimeError: broken check"]
    check = doctor._video_codec("H.264", "libnothing", "h264", "", doctor.failed)
    assert check.state is State.FAILED
    assert "does not work in PyAV" in check.detail


def test_the_exit_code_says_whether_the_main_job_can_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for state, code in ((State.OK, 0), (State.LACKING, 0), (State.FAILED, 1)):
        monkeypatch.setattr(doctor, "MACHINE", {"x": lambda state=state: iter([Check("x", state, "words")])})
        monkeypatch.setattr(doctor, "font", lambda settings: doctor.ok("font", "there"))
        assert cli.main(["doctor"]) == code
        assert f"{state} " in capsys.readouterr().out
