"""What is sealed opens only with its key and in its place; on both databases nothing lies in plain text."""

import base64
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from foundation.database import Database, Transaction
from foundation.migration import _config, migrate
from foundation.repositories.broadcasts import Broadcast, BroadcastKind, BroadcastRepository
from foundation.repositories.cameras import Camera, CameraRepository
from foundation.repositories.sites import Site, SiteRepository, sip_account
from foundation.sealed_rows import SealedCount, check, seal_anew
from foundation.secrets import Cell, SecretBox, SecretsError, add_key, make_key_file, mode_problem
from tests.keys import BOX

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
GATE = Camera("gate", "nanning", "大门", "rtsp://10.0.0.1/1", NOON, "admin", "s3cret-camera")
SHOW = Broadcast(
    "b1",
    "show",
    "会商",
    BroadcastKind.CAMERA,
    "gate",
    "nanning",
    True,
    0,
    "rtmp://h/a/s3cret-key",
    "wei",
    NOON,
)
ROOM = sip_account("room1", "gx", "s3cret-room", "nanning")
CELL = Cell("cameras", "password", ("gate",))


@given(st.text())
def test_what_is_sealed_comes_back(secret: str) -> None:
    stored = BOX.seal(CELL, secret)
    assert BOX.open(CELL, stored) == secret
    assert (stored == "") == (secret == "")


def test_nothing_of_a_secret_shows_and_no_two_look_alike() -> None:
    first, second = BOX.seal(CELL, "s3cret"), BOX.seal(CELL, "s3cret")
    assert first != second
    assert b"s3cret" not in base64.b64decode(first.rpartition(":")[2])


@pytest.mark.parametrize(
    "elsewhere",
    [
        replace(CELL, row=("yard",)),
        replace(CELL, column="url"),
        replace(CELL, table="broadcasts"),
        Cell("cameras", "password", ("ga", "te")),
    ],
)
def test_a_secret_moved_to_another_place_does_not_open(elsewhere: Cell) -> None:
    stored = BOX.seal(CELL, "s3cret")
    with pytest.raises(SecretsError, match=r"was altered, or was sealed for another row") as refused:
        BOX.open(elsewhere, stored)
    assert str(elsewhere) in str(refused.value)


def test_what_was_altered_or_never_sealed_does_not_open() -> None:
    stored = BOX.seal(CELL, "s3cret")
    body = bytearray(base64.b64decode(stored.rpartition(":")[2]))
    for place in (0, 12, len(body) - 1):
        body[place] ^= 1
        changed = f"{stored.rpartition(':')[0]}:{base64.b64encode(body).decode()}"
        body[place] ^= 1
        with pytest.raises(SecretsError, match="was altered"):
            BOX.open(CELL, changed)
    for wrong in (
        stored[:-9],
        f"{stored[:20]}",
        stored.replace("=", "!") + "!",
        stored.rpartition(":")[0] + ":",
    ):
        with pytest.raises(SecretsError):
            BOX.open(CELL, wrong)
    with pytest.raises(SecretsError, match="is not sealed"):
        BOX.open(CELL, "s3cret")


def test_the_first_key_seals_and_all_open(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "secrets.key"
    assert make_key_file(path)
    before = SecretBox.load(path)
    stored = before.seal(CELL, "s3cret")
    assert not make_key_file(path)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    add_key(path)
    after = SecretBox.load(path)
    assert (after.open(CELL, stored), after.old(stored)) == ("s3cret", True)
    again = after.seal(CELL, "s3cret")
    assert not after.old(again)
    with pytest.raises(SecretsError, match=r"secrets\.key is not the one the database was sealed with"):
        before.open(CELL, again)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["secrets.key"]


def test_others_must_not_read_the_keys(tmp_path: Path) -> None:
    path = tmp_path / "secrets.key"
    make_key_file(path)
    assert mode_problem(path) is None
    path.chmod(0o640)
    assert str(mode_problem(path)).startswith(f"{path} has mode 0640")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "has no key in it"),
        (b"# none\n\n", "has no key in it"),
        (b"# one\nc2hvcnQ=\n", "line 2 is not 32 bytes in base64"),
        (b"***\n", "line 1 is not 32 bytes in base64"),
        (b"\xff\xfe", "is no text of keys"),
    ],
)
def test_a_key_file_that_is_none_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "secrets.key"
    path.write_bytes(content)
    with pytest.raises(SecretsError, match=words) as refused:
        SecretBox.load(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_key_file_that_is_not_there_or_cannot_be_made_is_named(tmp_path: Path) -> None:
    with pytest.raises(SecretsError, match=rf"key file {tmp_path}/absent is missing"):
        SecretBox.load(tmp_path / "absent")
    with pytest.raises(SecretsError, match=rf"key file {tmp_path} cannot be read"):
        SecretBox.load(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(SecretsError, match="cannot be written"):
        make_key_file(tmp_path / "file" / "secrets.key")


# --- in the database --------------------------------------------------------------------------------------


async def _fill(tx: Transaction) -> None:
    await CameraRepository(tx).add(GATE)
    await CameraRepository(tx).add(replace(GATE, id="open", username=None, password=""))
    await BroadcastRepository(tx).add(SHOW)
    await SiteRepository(tx).save_sip_account(ROOM)


async def _everything(tx: Transaction) -> str:
    """All that the tables with secrets hold, as text."""
    found = [(await tx.execute(text(f"SELECT * FROM {table}"))).all() for table in SEALED_TABLES]
    return str(found)


SEALED_TABLES = ("cameras", "broadcasts", "sip_accounts")
PLAIN = ("s3cret-camera", "s3cret-key", ROOM.ha1_md5, ROOM.ha1_sha256)


async def test_no_secret_lies_in_plain_text_and_all_come_back(database: Database) -> None:
    async with database.transaction() as tx:
        await _fill(tx)
        stored = await _everything(tx)
        assert not [secret for secret in PLAIN if secret in stored]
        assert stored.count("sealed1:") == 4
        tx.expire_all()
        assert await CameraRepository(tx).get("gate") == GATE
        assert await BroadcastRepository(tx).get("b1") == SHOW
        assert await SiteRepository(tx).sip_account("room1", "gx") == ROOM
        assert await BroadcastRepository(tx).change("b1", push_url="rtmp://h/a/other")
        changed = await BroadcastRepository(tx).get("b1")
        assert changed is not None
        assert changed.push_url == "rtmp://h/a/other"
        connection = await tx.connection()
        assert await connection.run_sync(check, BOX) == SealedCount(4, 0)


async def test_a_password_moved_to_another_camera_is_noticed(database: Database) -> None:
    async with database.transaction() as tx:
        await _fill(tx)
        moved = "(SELECT password FROM cameras WHERE id = 'gate')"
        await tx.execute(text(f"UPDATE cameras SET password = {moved} WHERE id = 'open'"))
        tx.expire_all()
        with pytest.raises(SecretsError, match=r"cameras\.password of open was altered"):
            await CameraRepository(tx).get("open")


async def test_a_digest_secret_that_was_taken_away_is_no_empty_password(database: Database) -> None:
    async with database.transaction() as tx:
        await _fill(tx)
        await tx.execute(text("UPDATE sip_accounts SET ha1_md5 = NULL"))
        tx.expire_all()
        with pytest.raises(SecretsError, match="set it anew"):
            await SiteRepository(tx).sip_account("room1", "gx")


async def test_a_process_without_keys_says_so(database: Database) -> None:
    keyless = Database(database.url.render_as_string(hide_password=False))
    async with database.transaction() as tx:
        await _fill(tx)
    async with keyless.reading() as tx:
        assert await BroadcastRepository(tx).of_subject(BroadcastKind.CAMERA, "other") == ()
        with pytest.raises(SecretsError, match="this process has no keys"):
            await CameraRepository(tx).get("gate")
    await keyless.aclose()


async def test_after_a_change_of_keys_everything_is_sealed_anew(database: Database) -> None:
    new = os.urandom(32)
    both, alone = SecretBox([new, bytes(range(32))]), SecretBox([new])
    async with database.transaction() as tx:
        await _fill(tx)
        connection = await tx.connection()
        assert await connection.run_sync(check, both) == SealedCount(4, 4)
        assert await connection.run_sync(seal_anew, both) == 4
        assert await connection.run_sync(seal_anew, both) == 0
        assert await connection.run_sync(check, alone) == SealedCount(4, 0)
        with pytest.raises(SecretsError, match="is not the one the database was sealed with"):
            await connection.run_sync(check, BOX)


# --- the migration ----------------------------------------------------------------------------------------


def _to(connection: Connection, revision: str, box: SecretBox | None) -> None:
    config = _config()
    config.attributes["connection"] = connection
    config.attributes["secrets"] = box
    below = connection.dialect.has_table(connection, "cameras") and revision < "0009"
    (command.downgrade if below else command.upgrade)(config, revision)


async def _move(database: Database, revision: str, box: SecretBox | None) -> None:
    async with database.transaction() as tx:
        await (await tx.connection()).run_sync(_to, revision, box)


async def _before_sealing(url: str) -> None:
    """A database of schema 0007 with secrets as they lay in it then."""
    database = Database(url)
    await _move(database, "0007", None)
    async with database.transaction() as tx:
        await SiteRepository(tx).save(Site("nanning", "南宁", "administration"))
        for camera, password in (("gate", "s3cret-camera"), ("open", ""), ("odd", "sealed1:not-yet")):
            await tx.execute(
                text(
                    "INSERT INTO cameras VALUES (:id, 'nanning', '门', 'rtsp://h/1', 'admin', :password, "
                    ":no, :yes, '2026-05-01 12:00:00')"
                ),
                {"id": camera, "password": password, "no": False, "yes": True},
            )
        await tx.execute(
            text(
                "INSERT INTO rules VALUES ('r1', 'gate', 'black', '遮挡', '[]', '{}', '[]', :yes, "
                "'2026-05-01 12:00:00')"
            ),
            {"yes": True},
        )
        await tx.execute(
            text(
                "INSERT INTO broadcasts VALUES ('b1', 'show', '会商', 'camera', 'gate', 'nanning', :yes, 0, "
                "'rtmp://h/a/s3cret-key', 'wei', '2026-05-01 12:00:00', NULL)"
            ),
            {"yes": True},
        )
        await tx.execute(
            text("INSERT INTO sip_accounts VALUES ('room1', 'gx', :md5, :sha256, 'nanning')"),
            {"md5": ROOM.ha1_md5, "sha256": ROOM.ha1_sha256},
        )
    await database.aclose()


async def test_the_migration_seals_what_there_is_and_back_opens_it(empty_url: str, tmp_path: Path) -> None:
    await _before_sealing(empty_url)
    path = tmp_path / "secrets.key"
    await migrate(empty_url, key_file=path)
    box = SecretBox.load(path)
    database = Database(empty_url, secrets=box)
    async with database.reading() as tx:
        stored = await _everything(tx)
        assert not [secret for secret in PLAIN if secret in stored]
        cameras = {one.id: one.password for one in await CameraRepository(tx).all()}
        assert cameras == {"gate": "s3cret-camera", "open": "", "odd": "sealed1:not-yet"}
        show = await BroadcastRepository(tx).get("b1")
        assert show is not None
        assert show.push_url == SHOW.push_url
        assert await SiteRepository(tx).sip_account("room1", "gx") == ROOM
        assert await tx.scalar(text("SELECT count(*) FROM rules")) == 1  # the camera's row was never gone
    await _move(database, "0007", box)
    async with database.reading() as tx:
        stored = await _everything(tx)
        assert [secret for secret in PLAIN if secret not in stored] == []
        assert await tx.scalar(text("SELECT password FROM cameras WHERE id = 'open'")) == ""
    await database.aclose()
    await migrate(empty_url, key_file=path)


async def test_nothing_of_the_plain_text_stays_in_the_file(tmp_path: Path) -> None:
    await _before_sealing(f"sqlite:///{tmp_path / 'anshi.db'}")
    assert b"s3cret-camera" in (tmp_path / "anshi.db").read_bytes()
    await migrate(f"sqlite:///{tmp_path / 'anshi.db'}", key_file=tmp_path / "secrets.key")
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        assert not [secret for secret in PLAIN if secret.encode() in content], path


async def test_without_a_key_file_nothing_is_migrated_that_needs_one(empty_url: str) -> None:
    await _before_sealing(empty_url)
    with pytest.raises(SecretsError, match="no key file was given"):
        await migrate(empty_url)


async def test_a_lost_or_wrong_key_file_ends_the_start_but_not_while_nothing_is_sealed(
    empty_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "secrets.key"
    await migrate(empty_url, key_file=path)
    path.unlink()
    await migrate(empty_url, key_file=path)  # nothing was sealed: a new one will do
    database = Database(empty_url, secrets=SecretBox.load(path))
    async with database.transaction() as tx:
        await SiteRepository(tx).save(Site("nanning", "南宁", "administration"))
        await CameraRepository(tx).add(GATE)
    await database.aclose()
    kept = path.rename(tmp_path / "kept.key")
    with pytest.raises(SecretsError, match=rf"key file {path} is missing"):
        await migrate(empty_url, key_file=path)
    assert not path.exists()
    make_key_file(path)
    with pytest.raises(SecretsError, match=rf"key file {path} is not the one the database was sealed with"):
        await migrate(empty_url, key_file=path)
    await migrate(empty_url, key_file=kept)
