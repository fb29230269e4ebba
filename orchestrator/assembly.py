"""Builds every object of a process once and hands each its desks; the supervisor's way in.

`run_main` is the main process, `run_media_worker` a media worker. Everything a process holds is built
in one of these two, in the order of its dependencies, and ended in the reverse order.
"""

from orchestrator.main_process import run_main
from orchestrator.media_process import run_media_worker

__all__ = ["run_main", "run_media_worker"]
