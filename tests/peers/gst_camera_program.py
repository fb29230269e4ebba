"""Run by Debian's own Python, which has GObject introspection: a camera served by gst-rtsp-server.

gst_camera_program.py ADDRESS PORT PIPELINE [basic|digest USER PASSWORD]
"""

import importlib
import sys
from typing import Any


def _modules(*names: str) -> list[Any]:
    return [importlib.import_module(f"gi.repository.{name}") for name in names]


def main(address: str, port: str, pipeline: str, *login: str) -> None:
    gi = importlib.import_module("gi")
    for name in ("Gst", "GstRtsp", "GstRtspServer"):
        gi.require_version(name, "1.0")
    gst, glib, gst_rtsp, rtsp = _modules("Gst", "GLib", "GstRtsp", "GstRtspServer")
    gst.init(None)
    server, factory = rtsp.RTSPServer(), rtsp.RTSPMediaFactory()
    server.set_address(address)
    server.set_service(port)
    factory.set_launch(pipeline)
    factory.set_shared(True)
    if login:
        scheme, user, password = login
        authentication, token = rtsp.RTSPAuth(), rtsp.RTSPToken()
        token.set_string("media.factory.role", "user")
        if scheme == "basic":
            made = rtsp.RTSPAuth.make_basic(user, password)
            authentication.set_supported_methods(gst_rtsp.RTSPAuthMethod.BASIC)
            authentication.add_basic(made, token)
        else:
            authentication.set_supported_methods(gst_rtsp.RTSPAuthMethod.DIGEST)
            authentication.add_digest(user, password, token)
        rules = gst.Structure.new_empty("user")
        for right in ("media.factory.access", "media.factory.construct"):
            rules.set_value(right, True)
        factory.add_role_from_structure(rules)
        server.set_auth(authentication)
    server.get_mount_points().add_factory("/camera", factory)
    server.attach(None)
    print("serving", flush=True)
    glib.MainLoop().run()


if __name__ == "__main__":
    main(*sys.argv[1:])
