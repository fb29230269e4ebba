"""The command line: what it prints, what it exits with."""

from __future__ import annotations

import asyncio
import functools
import io
import logging
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from config.loading import load
from config.settings import Settings
from foundation.audit import verify
from foundation.authorisation import Role
from foundation.database import Database
from foundation.migration import known_revision
from foundation.repositories.sites import SiteRepository
from foundation.repositories.users import UserRepository
from orchestrator import cli, supervisor

CONFIG = """
node: {id: cenxi, name: 岑溪, level: county, site_id: county-cenxi}
http: {bind: 127.0.0.1, port: 18943}
networks:
  - {name: lan, bind: 127.0.0.1, sip: {udp: null, tcp: null, tls: null}, webrtc_port: null, rtsp: null}
edge: {enabled: false}
recordings: {enabled: false}
analytics: {enabled: false}
media: {workers: 0}
"""
PASSWORD = "Kx7-mountain-river"


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """`run` sets up the process's logging; the next test's is its own."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def config(tmp_path: Path) -> list[str]:
    """The options that name a configuration and a data folder."""
    path = tmp_path / "node.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    return ["--config", str(path), "--data", str(tmp_path / "data")]


@pytest.fixture
def settings(config: list[str]) -> Settings:
    return load(Path(config[1]), {}, Path(config[3]))


@pytest.fixture
def password(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a line on standard input."""
    return lambda line: monkeypatch.setattr(sys, "stdin", io.StringIO(line))


def test_help_comes_without_loading_the_product() -> None:
    code = "import sys; from orchestrator import cli\ntry: cli.main(['--help'])\nexcept SystemExit: pass\n"
    code += "print([name for name in ('av', 'cv2', 'sqlalchemy', 'aiohttp') if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert run.stdout.splitlines()[-1] == "[]"
    assert all(command in run.stdout for command in ("run", "demo", "doctor", "user", "migrate"))


@pytest.mark.parametrize(
    "command", [["run"], ["migrate"], ["doctor"], ["user", "add", "liu", "--role", "viewer"]]
)
def test_a_wrong_configuration_is_one_line_and_exit_2(
    config: list[str], command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path(config[1]).write_text(CONFIG.replace("port: 18943", "prot: 1"), encoding="utf-8")
    assert cli.main([*command, *config]) == 2
    assert capsys.readouterr().err == f"anshi: {config[1]}: unknown key http.prot (did you mean port?)\n"


def test_the_command_itself_says_it_too(config: list[str]) -> None:
    Path(config[1]).write_text("node: {}\n", encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", "run", *config], capture_output=True, text=True, timeout=30
    )
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == f"anshi: {config[1]}: key node.id is missing\n"


def test_an_unwritable_data_folder_is_one_line_and_exit_2(
    config: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").write_text("a file")
    assert cli.main(["run", *config]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"anshi: data: folder {tmp_path}/data cannot be written: File exists"
    )


def test_run_serves_until_a_signal(
    config: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    original = supervisor.supervise
    loops: list[str] = []

    async def supervise(settings: Settings, stop: asyncio.Event, ready: Callable[[], None]) -> int:
        loops.append(type(asyncio.get_running_loop()).__module__)

        def now_ready() -> None:
            ready()
            os.kill(os.getpid(), signal.SIGTERM)

        return await original(settings, stop, now_ready, module="tests.orchestrator.fake_assembly")

    monkeypatch.setattr(supervisor, "supervise", supervise)
    try:
        assert cli.main(["run", *config]) == 0
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    words = [line.partition(" ")[2] for line in (tmp_path / "data" / "journal").read_text().splitlines()]
    assert words == [f"main starts {os.getpid()} ", "main says goodbye"]
    assert loops == ["uvloop"]


RUN = """
import functools, sys
from orchestrator import cli, supervisor
supervisor.supervise = functools.partial(supervisor.supervise, module="tests.orchestrator.fake_assembly")
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_every_process_at_once_still_ends_main_first(
    config: list[str], tmp_path: Path, number: signal.Signals
) -> None:
    """As a terminal's Ctrl-C does, and a service manager that stops a whole control group."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "ANSHI_MEDIA__WORKERS": "2"}
    node = subprocess.Popen(
        [sys.executable, "-c", RUN, "run", *config], env=environment, start_new_session=True
    )
    journal = tmp_path / "data" / "journal"
    try:
        end = time.monotonic() + 30
        while not (journal.exists() and journal.read_text().count("main has media-") == 2):
            assert time.monotonic() < end
            assert node.poll() is None
            time.sleep(0.05)
        os.killpg(node.pid, number)
        assert node.wait(10) == 0
    finally:
        if node.poll() is None:
            os.killpg(node.pid, signal.SIGKILL)
            node.wait()
    said = [line.split(maxsplit=1)[1] for line in journal.read_text().splitlines()]
    assert said[-3] == "main says goodbye", said
    assert sorted(said[-2:]) == ["media-0 ends", "media-1 ends"], said


def test_migrate_says_what_it_did(config: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["migrate", *config]) == 0
    assert capsys.readouterr().out == f"the database went from schema none to {known_revision()}\n"
    assert cli.main(["migrate", *config]) == 0
    assert capsys.readouterr().out == f"the database has schema {known_revision()} already\n"


def test_migrate_without_a_database_says_so(
    config: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANSHI_DATABASE__URL", "postgresql://anshi:secret@127.0.0.1:1/anshi")
    assert cli.main(["migrate", *config]) == 1
    error = capsys.readouterr().err
    assert error.startswith(
        "anshi: database postgresql+asyncpg://anshi:***@127.0.0.1:1/anshi cannot be reached"
    )
    assert "secret" not in error
    assert error.count("\n") == 1


def test_a_user_is_added_at_the_nodes_own_site_with_a_row_in_the_audit(
    config: list[str], settings: Settings, password: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    password(f"{PASSWORD}\n")
    add = functools.partial(
        cli.main, ["user", "add", "Liu", "--password-stdin", *config, "--role", "auditor"]
    )
    assert add() == 0
    assert capsys.readouterr().out == "user liu added: auditor at county-cenxi\n"

    async def look() -> None:
        database = Database(settings.database_url)
        async with database.reading() as tx:
            user = await UserRepository(tx).by_name("liu")
            assert user is not None
            assert (user.roles, user.site_id) == (frozenset({Role.AUDITOR}), "county-cenxi")
            assert user.password_hash.startswith("$argon2id$")
            site = await SiteRepository(tx).get("county-cenxi")
            assert site is not None
            assert (site.name, site.kind) == ("岑溪", "county")
        assert (await verify(database)).rows == 1
        await database.aclose()

    asyncio.run(look())
    password(f"{PASSWORD}\n")
    assert add() == 1
    assert capsys.readouterr().err == "anshi: there is a user 'liu' already\n"


@pytest.mark.parametrize(
    ("options", "line", "message"),
    [
        (["--role", "king"], PASSWORD, "no such role: king (known: system-admin, security-admin, auditor,"),
        (["--role", "viewer", "--site", "mars"], PASSWORD, "there is no site 'mars' (known: county-cenxi)"),
        (["--role", "viewer"], "short", "a password has at least"),
        (["--role", "auditor", "--role", "system-admin"], PASSWORD, ""),
    ],
)
def test_a_user_that_cannot_be_added_is_one_line_and_exit_1(
    config: list[str],
    password: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    line: str,
    message: str,
) -> None:
    password(f"{line}\n")
    assert cli.main(["user", "add", "liu", "--password-stdin", *options, *config]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"anshi: {message}")
    assert error.count("\n") == 1


def test_without_a_terminal_a_password_must_come_from_stdin(
    config: list[str], password: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    password("")
    assert cli.main(["user", "add", "liu", "--role", "viewer", *config]) == 1
    assert capsys.readouterr().err == (
        "anshi: there is no terminal to ask for the password; use --password-stdin\n"
    )
