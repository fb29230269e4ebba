"""A real PostgreSQL cluster for one test session, and a database in it for each test that asks.

Use the fixture `postgresql` and mark the test `requires("postgresql")`. Servers refuse to run as root, so
root starts it as the user postgres that the package made.
"""

import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.peers.ports import PortBlock

START_SECONDS = 30


class PostgresqlCluster:
    """One server with trust authentication on a loopback port and no care for power cuts."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self._folder = folder
        self._numbers = count(1)
        self._server: subprocess.Popen[bytes] | None = None
        self._binaries = Path(max(glob.glob("/usr/lib/postgresql/*/bin/postgres"), key=_version)).parent

    def start(self) -> None:
        """Make the cluster and return once it answers. Raises AssertionError with its words otherwise."""
        data = self._folder / "data"
        made = self._run(
            "initdb", "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"
        )
        assert made.returncode == 0, made.stdout
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "max_connections": "60",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self._folder / "postgresql.log").open("wb") as log:
            self._server = subprocess.Popen(
                self._as_owner([str(self._binaries / "postgres"), "-D", str(data), *options]),
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        end = time.monotonic() + START_SECONDS
        while self._run("pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)).returncode != 0:
            assert self._server.poll() is None, self.words()
            assert time.monotonic() < end, self.words()
            time.sleep(0.05)

    def stop(self) -> None:
        """End the server and wait for it."""
        if self._server is None or self._server.poll() is not None:
            return
        self._server.send_signal(signal.SIGQUIT)
        try:
            self._server.wait(10)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()

    def create_database(self) -> str:
        """A new database without tables; returns its name."""
        name = f"anshi_{next(self._numbers)}"
        self.psql(f'CREATE DATABASE "{name}" TEMPLATE template0')
        return name

    def drop_database(self, name: str) -> None:
        self.psql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def url(self, name: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def psql(self, statement: str, database: str = "postgres") -> str:
        """What psql prints for a statement; AssertionError when it fails."""
        address = ("-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-d", database)
        done = self._run("psql", "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", *address, "-c", statement)
        assert done.returncode == 0, done.stdout
        return done.stdout.strip()

    def words(self) -> str:
        return (self._folder / "postgresql.log").read_text(errors="replace")

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._as_owner([str(self._binaries / program), *arguments]),
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def _as_owner(self, command: list[str]) -> list[str]:
        # SIGQUIT is the server's immediate shutdown: it does not outlive a test run that was killed.
        prefix = ["setpriv", "--pdeathsig", "QUIT"]
        if os.geteuid() == 0:
            prefix += ["--reuid", "postgres", "--regid", "postgres", "--init-groups"]
        return [*prefix, *command]


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlCluster]:
    """The session's cluster; its folder is not pytest's, into which only our own user may look."""
    folder = Path(tempfile.mkdtemp(prefix="anshi-postgresql-"))
    if os.geteuid() == 0:
        owner = pwd.getpwnam("postgres")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
    with PortBlock() as ports:
        cluster = PostgresqlCluster(folder, ports.take())
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
            shutil.rmtree(folder, ignore_errors=True)


def _version(path: str) -> tuple[int, ...]:
    """The number in .../postgresql/15/bin/postgres, or (0,) where there is none."""
    parts = Path(path).parts[-3].split(".")
    return tuple(int(part) for part in parts if part.isdigit()) or (0,)
