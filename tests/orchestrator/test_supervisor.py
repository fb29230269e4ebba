"""Processes die, hang, fail to start and stop: what the supervisor makes of it, with real processes."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import uvloop

from config.loading import dump
from config.settings import Analytics, Edge, Http, Media, Network, Node, Recordings, Settings, Sip
from foundation.desk_socket import DeskClient
from foundation.desks import Refusal
from orchestrator import supervisor as supervisor_module
from orchestrator.control import EXIT_FAILED, StartFailure
from orchestrator.preflight import socket_folder
from orchestrator.supervisor import Supervisor, supervise, table
from tests.orchestrator.fake_assembly import ProbeDesk
from tests.peers.ports import PortBlock, occupied
from tests.peers.waiting import until_true

MODULE = "tests.orchestrator.fake_assembly"
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes import our stand-in for the assembly."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def node(
    data: Path, *, workers: int = 1, spare: bool = False, port: int = 8443, edge: int | None = None
) -> Settings:
    data.mkdir(exist_ok=True)
    return Settings(
        node=Node(id="t", name="试验"),
        data=data,
        http=Http(bind="127.0.0.1", port=port),
        networks=(
            Network(
                name="lan",
                bind="127.0.0.1",
                sip=Sip(udp=None, tcp=None, tls=None),
                webrtc_port=None,
                rtsp=None,
            ),
        ),
        media=Media(workers=workers, spare=spare),
        edge=Edge(enabled=edge is not None, bind="127.0.0.1", port=edge or 8444),
        recordings=Recordings(enabled=False),
        analytics=Analytics(enabled=False),
    )


def journal(settings: Settings) -> list[tuple[float, str]]:
    path = settings.data / "journal"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(float(at), words) for at, _, words in (line.partition(" ") for line in lines)]


def words(settings: Settings) -> list[str]:
    return [words for _, words in journal(settings)]


async def seen(settings: Settings, pattern: str, timeout: float = 15.0) -> tuple[float, str]:
    """The first journal line that matches, once it is there."""

    def find() -> tuple[float, str] | None:
        return next((line for line in journal(settings) if re.fullmatch(pattern, line[1])), None)

    await until_true(
        lambda: find() is not None, f"{pattern!r} in the journal", timeout, lambda: str(words(settings))
    )
    found = find()
    assert found is not None
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@asynccontextmanager
async def supervised(settings: Settings) -> AsyncIterator[Supervisor]:
    """A running node; stopped at the end, when nothing may be left."""
    stop, ready = asyncio.Event(), asyncio.Event()
    with socket_folder(settings.data) as sockets, (settings.data / "lock").open("w") as lock:
        supervisor = Supervisor(settings, sockets, lock.fileno(), MODULE)
        running = asyncio.create_task(supervisor.run(stop, ready.set))
        waiting = asyncio.create_task(ready.wait())
        try:
            await asyncio.wait((running, waiting), timeout=30, return_when=asyncio.FIRST_COMPLETED)
            assert ready.is_set()
            if settings.media.spare:
                await until_true(lambda: "spare" in supervisor.pids, "the spare to be started", 10)
            yield supervisor
        finally:
            pids = supervisor.pids
            stop.set()
            await asyncio.gather(running, return_exceptions=True)
            waiting.cancel()
        assert running.result() in (0, EXIT_FAILED)
        assert not [pid for pid in pids.values() if alive(pid)]


def test_the_table_has_main_first_and_a_row_a_worker(tmp_path: Path) -> None:
    settings = node(tmp_path, workers=2)
    rows = [place.assign for place in table(settings, tmp_path)]
    assert [(row.name, row.role, row.index) for row in rows] == [
        ("main", "main", 0),
        ("media-0", "media", 0),
        ("media-1", "media", 1),
    ]
    assert rows[0].workers == tuple((row.name, row.socket) for row in rows[1:])
    assert all(row.settings == dump(settings) for row in rows)


async def test_processes_start_serve_and_stop_main_first(tmp_path: Path) -> None:
    settings = node(tmp_path, workers=2)
    async with supervised(settings) as supervisor:
        pids = supervisor.pids
        assert sorted(pids) == ["main", "media-0", "media-1"]
        assert len({os.getpid(), *pids.values()}) == 4
        await seen(settings, f"main has media-0 {pids['media-0']}")
        await seen(settings, f"main has media-1 {pids['media-1']}")
        client = DeskClient(tmp_path / "run" / "media-0.socket")
        assert await client.connect() == pids["media-0"]
        desk = client.desk(ProbeDesk)
        assert await desk.pid() == pids["media-0"]
        assert await desk.environment("MALLOC_ARENA_MAX") == "2"
        assert await desk.environment("MALLOC_MMAP_THRESHOLD_") == "262144"
        assert Path(f"/proc/{pids['media-0']}/comm").read_text() == "anshi-media-0\n"
        await client.aclose()
        began = time.monotonic()
    assert time.monotonic() - began < 4
    last = [line for line in words(settings) if line.endswith(("ends", "goodbye"))]
    assert last[0] == "main says goodbye"
    assert sorted(last[1:]) == ["media-0 ends", "media-1 ends"]


async def test_a_killed_worker_is_noticed_at_once_and_the_spare_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_ASSEMBLY_IMPORTED", str(tmp_path))
    settings = node(tmp_path, workers=1, spare=True)
    async with supervised(settings) as supervisor:
        first, spare = supervisor.pids["media-0"], supervisor.pids["spare"]
        await seen(settings, f"main has media-0 {first}")
        await until_true((tmp_path / f"imported-{spare}").exists, "the spare's imports", 20)
        killed = time.monotonic()
        os.kill(first, signal.SIGKILL)
        noticed, _ = await seen(settings, f"main lost media-0 {first}")
        replaced, _ = await seen(settings, f"main has media-0 {spare}")
        assert noticed - killed < 1.0
        assert replaced - killed < 1.0
        await until_true(lambda: supervisor.pids.get("spare", spare) != spare, "a new spare", 10)


async def test_without_a_spare_a_killed_worker_comes_back_too(tmp_path: Path) -> None:
    settings = node(tmp_path, workers=2)
    async with supervised(settings) as supervisor:
        pids = supervisor.pids
        await seen(settings, f"main has media-1 {pids['media-1']}")
        os.kill(pids["media-1"], signal.SIGKILL)
        await until_true(
            lambda: supervisor.pids.get("media-1", pids["media-1"]) != pids["media-1"], "a new one", 10
        )
        await seen(settings, f"main has media-1 {supervisor.pids['media-1']}")
        assert (supervisor.pids["main"], supervisor.pids["media-0"]) == (pids["main"], pids["media-0"])


async def test_a_killed_main_comes_back_and_finds_its_workers(tmp_path: Path) -> None:
    settings = node(tmp_path)
    async with supervised(settings) as supervisor:
        pids = supervisor.pids
        await seen(settings, f"main has media-0 {pids['media-0']}")
        os.kill(pids["main"], signal.SIGKILL)
        await until_true(
            lambda: words(settings).count(f"main has media-0 {pids['media-0']}") == 2, "main again", 10
        )
        assert supervisor.pids["media-0"] == pids["media-0"]


async def test_a_worker_whose_loop_hangs_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "PING_INTERVAL", 0.1)
    monkeypatch.setattr(supervisor_module, "UNANSWERED_LIMIT", 5)
    settings = node(tmp_path)
    async with supervised(settings) as supervisor:
        pid = supervisor.pids["media-0"]
        client = DeskClient(tmp_path / "run" / "media-0.socket")
        await client.connect(wait=5)
        with pytest.raises(Refusal, match="went away"):
            await client.desk(ProbeDesk).hang()
        await client.aclose()
        await until_true(lambda: supervisor.pids.get("media-0", pid) != pid, "a new worker", 10)


async def test_main_dying_again_and_again_ends_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "MAIN_DEATHS_LIMIT", 1)
    settings = node(tmp_path)
    (tmp_path / "main.fail").write_text("killed")
    assert await supervise(settings, asyncio.Event(), lambda: None, module=MODULE) == EXIT_FAILED
    assert [line.split()[0] for line in words(settings)].count("main") == 2


async def test_a_main_that_does_not_stop_is_killed_within_five_seconds(tmp_path: Path) -> None:
    settings = node(tmp_path)
    (tmp_path / "main.slow").touch()
    async with supervised(settings):
        began = time.monotonic()
    assert 3 < time.monotonic() - began < 5
    assert "media-0 ends" in words(settings)


@pytest.mark.parametrize(
    ("name", "how", "line"),
    [
        ("main", "configuration", "node.yaml: font: no such file"),
        ("main", "grouped", "http.port: taken meanwhile"),
        ("media-0", "port", "Address already in use"),
    ],
)
async def test_a_start_that_cannot_succeed_ends_with_its_line(
    tmp_path: Path, name: str, how: str, line: str
) -> None:
    settings = node(tmp_path)
    (tmp_path / f"{name}.fail").write_text(how)
    with pytest.raises(StartFailure) as caught:
        await supervise(settings, asyncio.Event(), lambda: None, module=MODULE)
    assert str(caught.value) == line
    assert [entry.split()[0:2] for entry in words(settings)].count([name, "starts"]) == 1


async def test_a_worker_with_a_defect_is_tried_again_with_delays(tmp_path: Path) -> None:
    settings = node(tmp_path)
    (tmp_path / "media-0.fail").write_text("defect")
    stop = asyncio.Event()
    running = asyncio.create_task(supervise(settings, stop, lambda: None, module=MODULE))
    await until_true(
        lambda: sum("media-0 starts" in line for line in words(settings)) == 2, "a second try", 20
    )
    (tmp_path / "media-0.fail").unlink()
    await seen(settings, r"main has media-0 \d+")
    stop.set()
    assert await running == 0


async def test_the_children_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    settings = node(tmp_path, spare=True)
    (tmp_path / "settings").write_bytes(dump(settings))
    code = (
        "import asyncio, sys; from pathlib import Path\n"
        "from config.loading import restore; from orchestrator.supervisor import supervise\n"
        "settings = restore(Path(sys.argv[1]).read_bytes())\n"
        "ready = Path(sys.argv[1] + '.ready').touch\n"
        f"asyncio.run(supervise(settings, asyncio.Event(), ready, module={MODULE!r}))\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(tmp_path / "settings"), cwd=ROOT
    )
    await until_true((tmp_path / "settings.ready").exists, "the node to be ready", 30)
    await seen(settings, r"main has media-0 \d+")
    children = [
        int(pid) for pid in Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    ]
    assert len(children) >= 2
    parent.kill()
    await parent.wait()
    began = time.monotonic()
    await until_true(lambda: not any(map(alive, children)), "the children to end", 6)
    assert time.monotonic() - began < 5
    assert [line for line in words(settings) if "goodbye" in line or "ends" in line] == [
        "main says goodbye",
        "media-0 ends",
    ]


# --- media inside main ----------------------------------------------------------------------------------


async def test_without_workers_main_runs_in_this_process(tmp_path: Path) -> None:
    settings = node(tmp_path, workers=0)
    stop, ready = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(supervise(settings, stop, ready.set, module=MODULE))
    await asyncio.wait_for(ready.wait(), 5)
    stop.set()
    assert await running == 0
    assert words(settings) == [f"main starts {os.getpid()} ", "main says goodbye"]


async def test_without_workers_a_failed_start_is_one_line_too(tmp_path: Path) -> None:
    settings = node(tmp_path, workers=0)
    (tmp_path / "main.fail").write_text("grouped")
    with pytest.raises(StartFailure, match=r"\Ahttp\.port: taken meanwhile\Z"):
        await supervise(settings, asyncio.Event(), lambda: None, module=MODULE)
    (tmp_path / "main.fail").write_text("defect")
    with pytest.raises(KeyError, match="defect"):
        await supervise(settings, asyncio.Event(), lambda: None, module=MODULE)


async def test_without_workers_a_main_that_hangs_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "STOP_LIMIT", 0.3)
    settings = node(tmp_path, workers=0)
    (tmp_path / "main.slow").touch()
    stop = asyncio.Event()
    assert await supervise(settings, stop, stop.set, module=MODULE) == EXIT_FAILED


async def test_a_node_without_workers_has_main_and_the_services_beside_it(tmp_path: Path) -> None:
    with PortBlock() as ports:
        settings = node(tmp_path, workers=0, edge=ports.take())
        async with supervised(settings) as supervisor:
            assert sorted(supervisor.pids) == ["edge", "main"]
            await seen(settings, r"main starts \d+ edge")
            await seen(settings, r"edge starts \d+ main")
    assert words(settings)[-2:] == ["main says goodbye", "edge ends"]


# --- before anything starts -------------------------------------------------------------------------------


async def test_a_port_in_use_ends_the_start_with_its_key(tmp_path: Path) -> None:
    with PortBlock() as ports, occupied(port := ports.take()):
        settings = node(tmp_path, port=port)
        with pytest.raises(StartFailure) as caught:
            await supervise(settings, asyncio.Event(), lambda: None, module=MODULE)
    assert str(caught.value) == f"http.port: 127.0.0.1:{port}/tcp is in use by another program"
    assert words(settings) == []


async def test_two_nodes_do_not_share_a_data_folder(tmp_path: Path) -> None:
    settings = node(tmp_path, workers=0)
    stop, ready = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(supervise(settings, stop, ready.set, module=MODULE))
    await asyncio.wait_for(ready.wait(), 5)
    with pytest.raises(StartFailure, match=rf"is in use by another node \(process {os.getpid()}\)"):
        await supervise(settings, asyncio.Event(), lambda: None, module=MODULE)
    stop.set()
    assert await running == 0


async def test_a_data_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = node(tmp_path)
    broken = Settings(node=settings.node, networks=settings.networks, data=tmp_path / "file" / "data")
    with pytest.raises(
        StartFailure, match=r"\Adata: folder .*/file/data cannot be written: Not a directory\Z"
    ):
        await supervise(broken, asyncio.Event(), lambda: None, module=MODULE)


async def test_a_font_that_is_not_there_ends_the_start(tmp_path: Path) -> None:
    settings = msgspec.structs.replace(node(tmp_path), font=tmp_path / "none.ttf")
    with pytest.raises(StartFailure, match=r"\Afont: .*none\.ttf is not there or cannot be read\Z"):
        await supervise(settings, asyncio.Event(), lambda: None, module=MODULE)


def test_sockets_go_elsewhere_when_the_data_folders_path_is_too_long(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 90)
    deep.mkdir()
    with socket_folder(deep) as folder:
        assert len(str(folder)) < 80
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()
    with socket_folder(tmp_path) as folder:
        assert folder == tmp_path / "run"


def test_it_works_on_uvloop(tmp_path: Path) -> None:
    settings = node(tmp_path)

    async def main() -> None:
        async with supervised(settings) as supervisor:
            pid = supervisor.pids["media-0"]
            os.kill(pid, signal.SIGKILL)
            await until_true(lambda: supervisor.pids.get("media-0", pid) != pid, "a new worker", 10)
            await seen(settings, f"main has media-0 {supervisor.pids['media-0']}")

    uvloop.run(main())
