"""Which real programs a test needs, and what to do where one is missing: skip with the reason, in CI fail."""

import glob
import os
import shutil
from dataclasses import dataclass

import pytest


@dataclass(frozen=True, slots=True)
class Program:
    """A peer: what must be there for it (commands, globs of files) and the Debian package that brings it."""

    package: str
    needs: tuple[str, ...]

    def present(self) -> bool:
        return all(bool(glob.glob(need)) if "/" in need else bool(which(need)) for need in self.needs)


PROGRAMS = {
    "baresip": Program("baresip-core baresip-ffmpeg", ("baresip", "/usr/lib/baresip/modules/avcodec.so")),
    "sipp": Program("sip-tester", ("sipp",)),
    "chromium": Program("chromium", ("chromium",)),
    "kamailio": Program("kamailio", ("kamailio", "/usr/lib/*/kamailio/modules/auth.so")),
    "coturn": Program("coturn", ("turnserver",)),
    "ffmpeg": Program("ffmpeg", ("ffmpeg", "ffprobe")),
    "redis": Program("redis-server", ("redis-server",)),
    "postgresql": Program("postgresql", ("/usr/lib/postgresql/*/bin/postgres",)),
    "tshark": Program("tshark", ("tshark", "dumpcap")),
    "gst-rtsp-server": Program(
        "gir1.2-gst-rtsp-server-1.0 python3-gi",
        ("/usr/lib/*/girepository-1.0/GstRtspServer-1.0.typelib", "/usr/lib/python3/dist-packages/gi"),
    ),
    "gstreamer": Program("gstreamer1.0-tools", ("gst-launch-1.0",)),
    "opencv-doc": Program("opencv-doc", ("/usr/share/doc/opencv-doc/examples/data/vtest.avi",)),
    "nginx-rtmp": Program("nginx libnginx-mod-rtmp", ("nginx", "/usr/lib/nginx/modules/ngx_rtmp_module.so")),
    "ip": Program("iproute2", ("ip",)),
    "nft": Program("nftables", ("nft",)),
    "ethtool": Program("ethtool", ("ethtool",)),
}


def which(command: str) -> str | None:
    """The command's path; the administrator's folders are searched too, as a user's PATH often lacks them."""
    return shutil.which(command, path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin")))


def requires(*peers: str) -> pytest.MarkDecorator:
    """Mark for tests that need these peers (names of PROGRAMS, or "root" for making network namespaces).

    Raises ValueError for a name that nobody knows, so that a misspelt one cannot skip a test for ever.
    """
    unknown = [peer for peer in peers if peer != "root" and peer not in PROGRAMS]
    if unknown:
        raise ValueError(f"the test asks for unknown peers: {', '.join(unknown)}")
    return pytest.mark.requires(*peers)


def missing(peers: tuple[str, ...]) -> str | None:
    """Why a test that needs `peers` cannot run here, or None."""
    reasons = []
    for peer in peers:
        if peer == "root":
            if os.geteuid() != 0:
                reasons.append("needs root")
        elif not PROGRAMS[peer].present():
            reasons.append(f"{peer} is not installed (Debian package {PROGRAMS[peer].package})")
    return "; ".join(reasons) or None


def hold(item: pytest.Item) -> None:
    """Skip `item`, or fail it in CI, where a peer that it asks for is missing."""
    asked = tuple(peer for mark in item.iter_markers("requires") for peer in mark.args)
    reason = missing(asked)
    if reason is None:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}; CI runs with every peer", pytrace=False)
    pytest.skip(reason)
