"""Kamailio as a telephone provider: a registrar and proxy with digest, whose subscribers call one another.

    async with Kamailio(folder, password="secret") as provider:
        provider.domain, provider.address, provider.port

Everybody has the same password; the user of a From header has to be the one who proved it. Calls go to who
registered as the number that is dialled, with Record-Route, and 404 for others.
"""

from pathlib import Path

from tests.peers.configured_server import ConfiguredServer
from tests.peers.ports import PortBlock

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


class Kamailio(ConfiguredServer):
    """See the module's head. It listens on UDP and TCP."""

    name = "kamailio"
    file = "kamailio.cfg"

    def __init__(
        self,
        folder: Path,
        *,
        password: str,
        domain: str = "ims.test",
        address: str = "127.0.0.20",
        algorithm: str = "MD5",
    ) -> None:
        super().__init__(folder, address)
        self.password = password
        self.domain = domain
        self.algorithm = algorithm

    def _configuration(self, ports: PortBlock) -> str:
        return CONFIGURATION.format(
            address=self.address,
            port=self.port,
            domain=self.domain,
            password=self.password,
            algorithm=self.algorithm,
            modules=str(next(Path("/").glob(MODULES.strip("/")))) + "/",
        )

    def _command(self) -> list[str]:
        return ["kamailio", "-DD", "-E", "-f", self.file, "-m", "32", "-M", "8", "-Y", str(self.folder)]
