"""nginx with its RTMP module from Debian: a third-party platform that takes pushes and hands them out."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.peers.process import PeerProcess
from tests.peers.requirement import which

CONFIGURATION = """\
load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;
daemon off;
master_process off;
{user}
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 2048; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {http}
}}
rtmp {{
    access_log off;
    server {{
        listen 127.0.0.1:{port};
        chunk_size {chunk};
        application live {{
            live on;
            wait_key on;
            {application}
        }}
    }}
}}
"""


def configuration(
    folder: Path, port: int, *, http: str = "", application: str = "", chunk: int = 4096
) -> str:
    """What nginx is to do, with everything that it writes in `folder`."""
    user = "user root;" if os.geteuid() == 0 else ""
    return CONFIGURATION.format(
        folder=folder, port=port, http=http, application=application, chunk=chunk, user=user
    )


@asynccontextmanager
async def nginx_rtmp(
    folder: Path, port: int, *, http: str = "", application: str = ""
) -> AsyncIterator[PeerProcess]:
    """nginx listening for RTMP at 127.0.0.1:`port`, application "live"."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "nginx.conf"
    file.write_text(configuration(folder, port, http=http, application=application))
    command = [which("nginx") or "nginx", "-e", "stderr", "-c", str(file), "-p", str(folder)]
    process = await PeerProcess.start("nginx", command, folder)
    try:
        await process.listening("127.0.0.1", port)
        yield process
    finally:
        await process.aclose()
