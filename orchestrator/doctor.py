"""What works on this machine and what is missing, a line each.

    for check in await examine(settings): print(check); check.prevents

With settings it looks at that node's folder, ports, database, audit and Redis too. It changes nothing
but for a file that is made and removed in the data folder.
"""

from __future__ import annotations

import asyncio
import ctypes
import datetime
import fcntl
import importlib
import importlib.metadata
import os
import platform
import resource
import shutil
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from config.settings import ConfigurationError, Settings
from orchestrator.font import find_font
from orchestrator.preflight import folder_problem, port_problems
from orchestrator.resources import pages_folder

if TYPE_CHECKING:  # imported where it is used: a broken library is a finding, not a crash
    from foundation.database import Database

LIBRARIES = {
    "aiohttp": "aiohttp",
    "aiortc": "aiortc",
    "aiosqlite": "aiosqlite",
    "alembic": "alembic",
    "argon2": "argon2-cffi",
    "asyncpg": "asyncpg",
    "av": "av",
    "cryptography": "cryptography",
    "cv2": "opencv-python-headless",
    "msgspec": "msgspec",
    "numpy": "numpy",
    "onnxruntime": "onnxruntime",
    "PIL": "pillow",
    "prometheus_client": "prometheus-client",
    "pydantic": "pydantic",
    "pylibsrtp": "pylibsrtp",
    "redis": "redis",
    "sqlalchemy": "SQLAlchemy",
    "structlog": "structlog",
    "yaml": "PyYAML",
}
SOL_UDP, UDP_SEGMENT = 17, 103
TIME_ERROR = 5
"""What adjtimex(2) returns while the clock is not synchronised."""
TIMEX_BYTES = 512
OLDEST_NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
DESCRIPTORS_WANTED = 8192
FREE_BYTES_WANTED = 1 << 30
REDIS_TIMEOUT = 3.0


class State(StrEnum):
    OK = "ok"
    LACKING = "lacking"  # something works less well, or not at all, but meetings do
    FAILED = "FAILED"  # the main job cannot run


@dataclass(frozen=True, slots=True)
class Check:
    """One line: what was looked at, how it is, and what to do about it."""

    subject: str
    state: State
    detail: str

    @property
    def prevents(self) -> bool:
        return self.state is State.FAILED

    def __str__(self) -> str:
        return f"{self.state:<8} {self.subject:<22} {' '.join(self.detail.split())}"


def ok(subject: str, detail: str) -> Check:
    return Check(subject, State.OK, detail)


def lacking(subject: str, detail: str) -> Check:
    return Check(subject, State.LACKING, detail)


def failed(subject: str, detail: str) -> Check:
    return Check(subject, State.FAILED, detail)


async def examine(settings: Settings | None) -> list[Check]:
    """Every check, in the order in which a person would mend things; a check that breaks is a failed one."""
    checks: list[Check] = []
    for subject, look in MACHINE.items():
        checks += _looked(subject, lambda look=look: list(look()))  # type: ignore[misc] # mypy cannot infer it
    if settings is None:
        return [*checks, *_looked("font", lambda: [font(None)])]
    checks += _looked("font", lambda: [font(settings)])
    for subject, look_at in NODE.items():
        checks += _looked(subject, lambda look_at=look_at: list(look_at(settings)))  # type: ignore[misc] # as above
    for subject, ask in SERVICES.items():
        try:
            checks += await ask(settings)
        except Exception as error:
            checks.append(failed(subject, f"{type(error).__name__}: {error}"))
    return checks


def _looked(subject: str, look: Callable[[], list[Check]]) -> list[Check]:
    try:
        return look()
    except Exception as error:
        return [failed(subject, f"{type(error).__name__}: {error}")]


# --- the machine ------------------------------------------------------------------------------------


def python() -> Iterator[Check]:
    yield ok("Python", f"{platform.python_version()} on {platform.machine()}, {os.cpu_count()} cores")


def libraries() -> Iterator[Check]:
    versions = []
    for module, distribution in LIBRARIES.items():
        try:
            importlib.import_module(module)
            versions.append(f"{distribution} {importlib.metadata.version(distribution)}")
        except Exception as error:  # whatever a broken installation raises
            yield failed("library", f"{distribution} cannot be imported: {error}")
    if versions:
        yield ok("libraries", ", ".join(versions))


def codecs() -> Iterator[Check]:
    yield _video_codec("H.264", "libx264", "h264", "", failed)
    yield _video_codec("VP8", "libvpx", "vp8", "browsers without H.264 cannot join", lacking)
    for name, codec, loss, report in (
        ("Opus", "libopus", "browsers have no sound", failed),
        ("G.711", "pcm_alaw", "many room terminals have no sound", failed),
        ("G.722", "g722", "terminals fall back to G.711", lacking),
    ):
        yield _sound_codec(name, codec, loss, report)


def _sound_codec(name: str, codec: str, loss: str, report: Callable[[str, str], Check]) -> Check:
    import av

    for mode, verb in (("w", "encode"), ("r", "decode")):
        try:
            av.codec.Codec(codec, "w" if mode == "w" else "r")
        except ValueError:
            return report(f"codec {name}", f"PyAV cannot {verb} it: {loss}")
    return ok(f"codec {name}", "encodes and decodes")


def _video_codec(
    name: str, encoder: str, decoder: str, loss: str, report: Callable[[str, str], Check]
) -> Check:
    """Encode a picture and decode it again."""
    import av
    import numpy as np

    subject = f"codec {name}"
    try:
        coder = av.CodecContext.create(encoder, "w")
        assert isinstance(coder, av.VideoCodecContext)
        coder.width, coder.height, coder.pix_fmt, coder.framerate = 128, 128, "yuv420p", Fraction(25)
        picture = np.full((192, 128), 90, np.uint8)
        frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
        frame.pts = 0
        packets = [*coder.encode(frame), *coder.encode(None)]
        reader = av.CodecContext.create(decoder, "r")
        assert isinstance(reader, av.VideoCodecContext)
        pictures = [shown for packet in packets for shown in reader.decode(packet)] + reader.decode(None)
        level = float(pictures[0].to_ndarray().mean())
    except (av.FFmpegError, ValueError, IndexError) as error:
        return report(subject, f"does not work in PyAV: {error}. {loss}")
    if abs(level - 90) > 5:
        return report(subject, f"comes back altered from PyAV (grey 90 as {level:.0f}). {loss}")
    return ok(subject, "encodes and decodes")


def segmentation() -> Iterator[Check]:
    """UDP_SEGMENT (udp(7)): one system call a frame and not one a packet."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here,
    ):
        there.bind(("127.0.0.1", 0))
        there.settimeout(1.0)
        try:
            size = [(SOL_UDP, UDP_SEGMENT, struct.pack("H", 100))]
            here.sendmsg([bytes(250)], size, 0, there.getsockname())
            lengths = [len(there.recv(1000)) for _ in range(3)]
        except OSError as error:
            yield lacking(
                "UDP segmentation", f"not in this kernel ({error}): fan-out costs several times as much"
            )
            return
    yield ok("UDP segmentation", f"one call sent packets of {', '.join(map(str, lengths))} bytes")


def descriptors() -> Iterator[Check]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < DESCRIPTORS_WANTED:
        yield lacking(
            "file descriptors", f"at most {hard} (ulimit -Hn); {DESCRIPTORS_WANTED} let large meetings in"
        )
    else:
        yield ok("file descriptors", "unlimited" if hard == resource.RLIM_INFINITY else f"up to {hard}")


def scheduling() -> Iterator[Check]:
    policy, parameter = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
        os.sched_setscheduler(0, policy, parameter)
    except PermissionError:
        yield lacking(
            "real-time scheduling", "not permitted (CAP_SYS_NICE): sound may be late on a full machine"
        )
        return
    yield ok("real-time scheduling", "permitted for the sound clock")


def clock() -> Iterator[Check]:
    now = datetime.datetime.now(datetime.UTC)
    shown = f"{now:%Y-%m-%d %H:%M:%S} UTC"
    if now < OLDEST_NOW:
        yield failed("clock", f"{shown} is in the past: certificates and sessions will not work")
        return
    if time.get_clock_info("monotonic").adjustable:
        yield failed("clock", "the monotonic clock can be set: media timing will break")
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.adjtimex(ctypes.create_string_buffer(TIMEX_BYTES)) == TIME_ERROR:
        yield lacking("clock", f"{shown}, not synchronised by NTP: records of several nodes will not agree")
    else:
        yield ok("clock", f"{shown}, synchronised")


def pages() -> Iterator[Check]:
    folder = pages_folder()
    if folder is not None:
        built = datetime.datetime.fromtimestamp((folder / "index.html").stat().st_mtime)
        yield ok("pages", f"built {built:%Y-%m-%d %H:%M}")
    else:
        yield lacking("pages", "not built: browsers get the API only; run `make setup` with Node 20 and npm")


MACHINE: dict[str, Callable[[], Iterator[Check]]] = {
    "Python": python,
    "libraries": libraries,
    "codecs": codecs,
    "UDP segmentation": segmentation,
    "file descriptors": descriptors,
    "real-time scheduling": scheduling,
    "clock": clock,
    "pages": pages,
}


# --- the node ---------------------------------------------------------------------------------------


def font(settings: Settings | None) -> Check:
    """Whether site names can be drawn in Chinese."""
    from PIL import ImageFont

    path = find_font(settings)
    if path is None:
        return lacking("font", "none found, so site names are not drawn: run `make setup`, or set `font`")
    try:
        face = ImageFont.truetype(str(path), 20)
    except OSError as error:
        return failed("font", f"{path} cannot be used: {error}")
    if bytes(face.getmask("安")) == bytes(face.getmask("\U0010fffd")):
        return failed("font", f"{path} has no Chinese letters")
    return ok("font", f"{path} ({' '.join(name for name in face.getname() if name)})")


def configuration(settings: Settings) -> Iterator[Check]:
    node = settings.node
    networks = ", ".join(network.name for network in settings.networks)
    yield ok("configuration", f"{node.id} ({node.name}), {node.level}; networks {networks}")


def folder(settings: Settings) -> Iterator[Check]:
    problem = folder_problem(settings.data)
    if problem is not None:
        yield failed("data folder", problem)
        return
    free = shutil.disk_usage(settings.data).free
    report = lacking if free < FREE_BYTES_WANTED else ok
    yield report("data folder", f"{settings.data}, writable, {free / 2**30:.1f} GiB free")


def recordings(settings: Settings) -> Iterator[Check]:
    if not settings.recordings.enabled:
        yield ok("recordings", "switched off")
        return
    place = settings.recordings_folder
    existing = next(path for path in (place, *place.parents) if path.exists())
    if not os.access(existing, os.W_OK):
        yield lacking("recordings", f"{existing} is not writable: nothing can be recorded")
        return
    free, reserve = shutil.disk_usage(existing).free, settings.recordings.reserve_megabytes << 20
    room = f"{place}, {free / 2**30:.1f} GiB free"
    if free <= reserve:
        yield lacking("recordings", f"{room}: not more than the {reserve >> 20} MiB that stay free")
    else:
        yield ok("recordings", room)


def detector(settings: Settings) -> Iterator[Check]:
    """Whether the model that looks at cameras can be used, and how long a look takes."""
    if not settings.analytics.enabled:
        yield ok("detector", "switched off")
        return
    from analytics.detector import Detector
    from analytics.model_package import DEFAULT_MODEL, ModelFault, load

    try:
        package = load(settings.analytics.model or DEFAULT_MODEL)
        seconds = Detector(package).first_seconds
    except ModelFault as fault:
        yield lacking("detector", f"{fault}; tamper checks go on, nobody is seen")
        return
    yield ok("detector", f"{package.name} {package.digest[:12]}, {1000 * seconds:.0f} ms a look")


def ports(settings: Settings) -> Iterator[Check]:
    holder = running_node(settings.data)
    if holder is not None:
        yield ok("ports", f"the node is running (process {holder}) and has them")
        return
    problems = list(port_problems(settings))
    yield from (failed("ports", problem) for problem in problems)
    if not problems:
        yield ok("ports", ", ".join(str(listener) for listener in settings.listeners()))


def running_node(data: Path) -> int | None:
    """The process that holds the data folder, None if nobody does."""
    try:
        with (data / "anshi.lock").open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(lock.read() or b"0")
    except (OSError, ValueError):
        return None
    return None


def certificate(settings: Settings) -> Iterator[Check]:
    from orchestrator.certificate import check_given

    http = settings.http
    if not http.tls:
        yield ok("certificate", "none: HTTPS ends at the trusted proxy")
    elif http.certificate is None or http.key is None:
        yield lacking("certificate", "none given: self-signed, so browsers warn until it is trusted")
    else:
        try:
            check_given(http.certificate, http.key)
        except ConfigurationError as error:
            yield failed("certificate", str(error))
        else:
            yield ok("certificate", str(http.certificate))


NODE: dict[str, Callable[[Settings], Iterator[Check]]] = {
    "configuration": configuration,
    "data folder": folder,
    "recordings": recordings,
    "detector": detector,
    "ports": ports,
    "certificate": certificate,
}


async def database(settings: Settings) -> list[Check]:
    """Reachable, of a schema we know, its audit chain unbroken."""
    from foundation.audit import verify
    from foundation.database import Database, DatabaseError
    from foundation.migration import current_revision, known_revision

    try:
        opened = Database(settings.database_url)
    except DatabaseError as error:
        return [failed("database", str(error))]
    try:
        if opened.path is not None and not opened.path.exists():
            return [ok("database", f"{opened.path} will be made at the first start")]
        before, known = await current_revision(opened), known_revision()
        if before is None:
            return [
                ok("database", f"{opened.name} is empty: its schema {known} will be made at the first start")
            ]
        if before > known:  # revisions are numbered
            detail = f"{opened.name} has schema {before}; this version knows only up to {known}"
            return [failed("database", detail)]
        if before != known:
            return [
                lacking("database", f"{opened.name} has schema {before}, not {known}: run `anshi migrate`")
            ]
        checks = [ok("database", f"{opened.name}, schema {known}")]
        report = await verify(opened)
        checks += await _secrets(settings.key_file, opened)
        if report:
            return [*checks, ok("audit", f"the chain of {report.rows} rows is unbroken")]
        return [*checks, failed("audit", f"the chain is broken at row {report.broken_at}: {report.reason}")]
    except DatabaseError as error:
        return [failed("database", str(error))]
    finally:
        await opened.aclose()


async def _secrets(path: Path, database: Database) -> list[Check]:
    """Whether the keys open everything that is sealed, and who may read them."""
    from foundation.sealed_rows import anything_sealed, check
    from foundation.secrets import SecretBox, SecretsError, mode_problem

    there = await asyncio.to_thread(path.exists)
    async with database.reading() as tx:
        connection = await tx.connection()
        if not there and not await connection.run_sync(anything_sealed):
            return [ok("secrets", f"none yet; {path} will be made at the first start")]
        try:
            found = await connection.run_sync(check, SecretBox.load(path))
        except SecretsError as error:
            return [failed("secrets", str(error))]
    if (problem := mode_problem(path)) is not None:
        return [lacking("secrets", problem)]
    old = f"; {found.old} need an older key until the next start" if found.old else ""
    return [ok("secrets", f"{path} opens all {found.all}{old}; back it up with the database")]


async def redis(settings: Settings) -> list[Check]:
    from redis.asyncio import Redis
    from redis.exceptions import RedisError

    if settings.redis.url is None:
        return [ok("redis", "not used: this node is one machine")]
    client = Redis.from_url(str(settings.redis.url))
    try:
        async with asyncio.timeout(REDIS_TIMEOUT):
            information = await client.info("server")
        return [ok("redis", f"version {information['redis_version']}")]
    except (RedisError, OSError, TimeoutError) as error:
        detail = f"cannot be reached ({error or 'no answer'}): events between machines come late"
        return [lacking("redis", detail)]
    finally:
        await client.aclose()


SERVICES: dict[str, Callable[[Settings], Awaitable[list[Check]]]] = {"database": database, "redis": redis}
