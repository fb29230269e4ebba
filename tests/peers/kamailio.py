"""Kamailio as a telephone provider: a registrar and proxy with digest, whose subscribers call one another.

    async with Kamailio(folder, password="secret") as provider:
        provider.domain, provider.address, provider.port

Everybody has the same password; the user of a From header has to be the one who proved it. Calls go to who
registered as the number that is dialled, with Record-Route, and 404 for others.
"""

import contextlib
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.peers.ports import PortBlock
from tests.peers.process import PeerProcess

MODULES = "/usr/lib/*/kamailio/modules/"

CONFIGURATION = """\
debug=2
log_stderror=yes
children=1
tcp_children=1
auto_aliases=no
listen=udp:{address}:{port}
listen=tcp:{address}:{port}
alias="{domain}"
mpath="{modules}"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
loadmodule "xlog.so"
modparam("usrloc", "db_mode", 0)
modparam("registrar", "min_expires", 60)
modparam("registrar", "max_expires", 3600)
modparam("auth", "algorithm", "{algorithm}")

request_route {{
    xlog("L_NOTICE", "took $rm $ru expires $hdr(Expires) from $fU at $si:$sp\\n");
    if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
    if (is_method("OPTIONS") && uri == myself && $rU == $null) {{ sl_send_reply("200", "Keepalive"); exit; }}
    if (has_totag()) {{
        if (loose_route()) {{ t_relay(); exit; }}
        if (is_method("ACK") && t_check_trans()) {{ t_relay(); exit; }}
        if (!is_method("ACK")) {{ sl_send_reply("404", "Not here"); }}
        exit;
    }}
    if (is_method("CANCEL")) {{ if (t_check_trans()) {{ t_relay(); }} exit; }}
    t_check_trans();
    if (is_method("REGISTER")) {{
        if (!pv_www_authenticate("{domain}", "{password}", "0") || $au != $tU) {{
            www_challenge("{domain}", "0");
            exit;
        }}
        xlog("L_NOTICE", "registered $tU as $ct\\n");
        save("location");
        exit;
    }}
    if (!pv_proxy_authenticate("{domain}", "{password}", "0")) {{ proxy_challenge("{domain}", "0"); exit; }}
    if ($au != $fU) {{ sl_send_reply("403", "Another user's From"); exit; }}
    consume_credentials();
    xlog("L_NOTICE", "call of $fU to $rU, asserted $hdr(P-Asserted-Identity)\\n");
    record_route();
    if (!lookup("location")) {{ sl_send_reply("404", "No such subscriber"); exit; }}
    t_relay();
}}
"""


class Kamailio:
    """See the module's head. It listens on UDP and TCP."""

    def __init__(
        self,
        folder: Path,
        *,
        password: str,
        domain: str = "ims.test",
        address: str = "127.0.0.20",
        algorithm: str = "MD5",
    ) -> None:
        self.folder = folder
        self.password = password
        self.domain = domain
        self.address = address
        self.algorithm = algorithm
        self.port = 0
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = self._stack.enter_context(PortBlock()).take()
        (self.folder / "kamailio.cfg").write_text(self._configuration())
        command = [
            "kamailio",
            "-DD",
            "-E",
            "-f",
            "kamailio.cfg",
            "-m",
            "32",
            "-M",
            "8",
            "-Y",
            str(self.folder),
        ]
        self._process = await PeerProcess.start("kamailio", command, self.folder)
        self._stack.push_async_callback(self._process.aclose)
        try:
            await self._process.listening(self.address, self.port)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def _configuration(self) -> str:
        return CONFIGURATION.format(
            address=self.address,
            port=self.port,
            domain=self.domain,
            password=self.password,
            algorithm=self.algorithm,
            modules=str(next(Path("/").glob(MODULES.strip("/")))) + "/",
        )

    async def said(self, pattern: str, timeout: float = 10.0) -> str:
        """The first line of its log that holds this pattern; AssertionError when it never comes."""
        return (await self._process.said(pattern, timeout)).group()

    def words(self) -> str:
        return self._process.words()
