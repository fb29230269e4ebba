"""The command `anshi`.

    anshi run --config FILE [--data DIR]
    anshi demo [--check] [--data DIR] [--address ADDRESS]
    anshi doctor [--config FILE] [--data DIR]
    anshi user add NAME --role ROLE --config FILE [--site SITE] [--password-stdin]
    anshi migrate --config FILE [--data DIR]
    anshi secrets rotate --config FILE [--data DIR]

Exit codes: 0 done; 1 it went wrong (of doctor: the main job cannot run here); 2 the command line, the
configuration or this machine must be mended first. Those errors are one line on standard error.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import getpass
import importlib
import resource
import signal
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from config.settings import ConfigurationError, Settings
from orchestrator.control import EXIT_CONFIGURATION, EXIT_FAILED, StartFailure

M_ARENA_MAX = -8
"""mallopt(3)."""
ARENAS = 2

_T = TypeVar("_T")


class CommandFailed(Exception):
    """The command cannot do what was asked; the text is one line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    options = parser().parse_args(arguments)
    try:
        code: int = options.command(options)
        return code
    except (ConfigurationError, StartFailure) as error:
        print(f"anshi: {error}", file=sys.stderr)
        return EXIT_CONFIGURATION
    except CommandFailed as error:
        print(f"anshi: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="anshi", description="Video conferences and surveillance relay.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run a node")
    _add_config(run)
    run.set_defaults(command=_run)

    demo = commands.add_parser("demo", help="a service, a room and a running meeting")
    demo.add_argument("--check", action="store_true", help="measure it for a minute, print JSON, and end")
    demo.add_argument("--data", type=Path, metavar="DIR", help="instead of build/demo")
    demo.add_argument("--address", default="127.0.0.1", help="of this machine, for visitors from others")
    demo.set_defaults(command=_demo)

    doctor = commands.add_parser("doctor", help="what works on this machine and what is missing")
    _add_config(doctor, required=False)
    doctor.set_defaults(command=_doctor)

    user = commands.add_parser("user", help="accounts").add_subparsers(required=True, metavar="COMMAND")
    add = user.add_parser("add", help="add a user of this node")
    add.add_argument("name")
    add.add_argument("--role", action="append", required=True, dest="roles", help="may be given again")
    add.add_argument("--site", help="where the user's jurisdiction begins (the node's own site)")
    add.add_argument("--display-name", default="")
    add.add_argument("--password-stdin", action="store_true", help="read the password's line from there")
    _add_config(add)
    add.set_defaults(command=_user_add)

    migrate = commands.add_parser("migrate", help="bring the database to this version's schema")
    _add_config(migrate)
    migrate.set_defaults(command=_migrate)

    secrets = commands.add_parser("secrets", help="keys of what is sealed in the database")
    rotate = secrets.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "rotate", help="put a new key before the old ones"
    )
    _add_config(rotate)
    rotate.set_defaults(command=_secrets_rotate)
    return parser


def _add_config(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    parser.add_argument("--config", type=Path, required=required, metavar="FILE")
    parser.add_argument("--data", type=Path, metavar="DIR", help="instead of the data folder set there")


def _settings(options: argparse.Namespace) -> Settings:
    from config.loading import load

    return load(options.config, data=options.data)


def _run_async(work: Coroutine[Any, Any, _T]) -> _T:
    from orchestrator.worker_process import loop_factory

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(work)


def _run(options: argparse.Namespace) -> int:
    from orchestrator.worker_process import log_settings

    settings = _settings(options)
    log_settings(settings)
    ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS)  # the processes started from here get it by environment
    raise_descriptor_limit()
    return _run_async(_supervise(settings))


async def _supervise(settings: Settings) -> int:
    from orchestrator.supervisor import supervise

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return await supervise(settings, stop, lambda: None)


def raise_descriptor_limit() -> None:
    """Every call holds several sockets: take as many descriptors as we may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _demo(options: argparse.Namespace) -> int:
    demo = importlib.import_module("orchestrator.demo")
    return int(demo.main(check=options.check, data=options.data, address=options.address))


def _doctor(options: argparse.Namespace) -> int:
    from orchestrator import doctor

    settings = _settings(options) if options.config is not None else None
    checks = _run_async(doctor.examine(settings))
    for check in checks:
        print(check)
    return EXIT_FAILED if any(check.prevents for check in checks) else 0


def _user_add(options: argparse.Namespace) -> int:
    from foundation.authorisation import Role
    from foundation.database import DatabaseError
    from orchestrator.accounts import add_user

    settings = _settings(options)
    unknown = set(options.roles) - set(Role)
    if unknown:
        raise CommandFailed(f"no such role: {', '.join(sorted(unknown))} (known: {', '.join(Role)})")
    password = _password(from_stdin=options.password_stdin)
    try:
        user = _run_async(
            add_user(
                settings,
                name=options.name,
                password=password,
                roles=frozenset(map(Role, options.roles)),
                site_id=options.site,
                display_name=options.display_name,
            )
        )
    except (ValueError, OSError, DatabaseError) as error:
        raise CommandFailed(str(error)) from error
    print(f"user {user.name} added: {', '.join(sorted(user.roles))} at {user.site_id}")
    return 0


def _password(*, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise CommandFailed("there is no terminal to ask for the password; use --password-stdin")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise CommandFailed("the two passwords differ")
    return password


def _migrate(options: argparse.Namespace) -> int:
    from foundation.database import DatabaseError
    from foundation.migration import migrate

    settings = _settings(options)
    try:
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        outcome = _run_async(migrate(settings.database_url, key_file=settings.key_file))
    except (OSError, DatabaseError) as error:
        raise CommandFailed(str(error)) from error
    if outcome.before == outcome.after:
        print(f"the database has schema {outcome.after} already")
    else:
        print(f"the database went from schema {outcome.before or 'none'} to {outcome.after}")
    return 0


def _secrets_rotate(options: argparse.Namespace) -> int:
    from foundation.secrets import SecretsError, add_key

    path = _settings(options).key_file
    try:
        add_key(path)
    except SecretsError as error:
        raise CommandFailed(str(error)) from error
    print(f"{path} has a new key. Back it up and start the node anew: that seals everything with it.")
    print("The old ones may go when `anshi doctor` says that nothing needs them.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
