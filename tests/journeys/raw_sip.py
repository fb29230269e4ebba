"""A SIP caller made of plain text, for what no good terminal sends: odd offers, wrong passwords, nonsense.

async with RawCaller(node.sip_port, address=NOBODY) as caller:
    answer = await caller.invite("800800", sdp(AUDIO))
    answer.status, answer.header("Warning"), answer.body
"""

import asyncio
import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

AUDIO = "m=audio 40000 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\n"
VIDEO = "m=video 40002 RTP/AVP 97\r\na=rtpmap:97 H264/90000\r\na=fmtp:97 profile-level-id=42e01f\r\n"
HASHES = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}
WAIT = 3.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: status, reason phrase, its header lines and body."""

    status: int
    reason: str
    head: str
    body: str

    def headers(self, name: str) -> list[str]:
        return re.findall(rf"^{name}\s*:\s*(.*?)\r?$", self.head, re.MULTILINE | re.IGNORECASE)

    def header(self, name: str) -> str:
        """Its only value, "" without one."""
        return next(iter(self.headers(name)), "")

    @property
    def tag(self) -> str:
        return self.header("To").partition("tag=")[2]


@dataclass(frozen=True, slots=True)
class Credentials:
    user: str
    password: str
    algorithm: str = "MD5"

    def answer(self, challenges: list[str], method: str, uri: str) -> str:
        """The Authorization value for the challenge of our algorithm (RFC 7616, qop=auth)."""
        offered = [dict(re.findall(r'(\w+)="?([^",]*)"?', challenge)) for challenge in challenges]
        ours = next(c for c in offered if c.get("algorithm", "MD5").upper() == self.algorithm)

        def digest(*words: str) -> str:
            return HASHES[self.algorithm](":".join(words).encode()).hexdigest()

        cnonce, count = secrets.token_hex(8), "00000001"
        secret = digest(self.user, ours["realm"], self.password)
        proof = digest(secret, ours["nonce"], count, cnonce, "auth", digest(method, uri))
        fields = {
            "username": self.user,
            "realm": ours["realm"],
            "nonce": ours["nonce"],
            "uri": uri,
            "response": proof,
            "cnonce": cnonce,
        }
        quoted = ", ".join(f'{key}="{value}"' for key, value in fields.items())
        opaque = f', opaque="{ours["opaque"]}"' if "opaque" in ours else ""
        return f"Digest {quoted}{opaque}, nc={count}, qop=auth, algorithm={self.algorithm}"


def sdp(*media: str, bandwidth: str = "", address: str = "127.0.0.1") -> str:
    head = f"v=0\r\no=- 1 1 IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\n"
    return head + (f"b={bandwidth}\r\n" if bandwidth else "") + "t=0 0\r\n" + "".join(media)


class RawCaller(asyncio.DatagramProtocol):
    """One UDP port of one address, towards a node's SIP port on 127.0.0.1."""

    def __init__(self, port: int, address: str = "127.0.0.1", user: str = "raw") -> None:
        self.target = port
        self.address = address
        self.user = user
        self._received: asyncio.Queue[str] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=(self.address, 0), remote_addr=("127.0.0.1", self.target)
        )
        self.port = self._transport.get_extra_info("sockname")[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transport.close()

    def datagram_received(self, data: bytes, _address: object) -> None:
        self._received.put_nowait(data.decode())

    def send(self, text: str) -> None:
        self._transport.sendto(text.encode())

    async def final(self, call: str) -> Answer:
        """The next final response of a call; all else is passed over. TimeoutError."""
        async with asyncio.timeout(WAIT):
            while True:
                head, _, body = (await self._received.get()).partition("\r\n\r\n")
                found = re.match(r"SIP/2\.0 (\d{3}) (.*)", head)
                answer = Answer(int(found[1]), found[2].strip(), head, body) if found is not None else None
                if answer is not None and answer.status >= 200 and answer.header("Call-ID") == call:
                    return answer

    async def invite(
        self,
        number: str,
        offer: str,
        *,
        credentials: Credentials | None = None,
        extra: Mapping[str, str] | None = None,
    ) -> Answer:
        """Dial, with credentials once they are asked for; a call that is accepted is ended at once."""
        call, tag, uri = secrets.token_hex(8), secrets.token_hex(4), f"sip:{number}@127.0.0.1:{self.target}"
        fields = dict(extra or {})
        for number_of_try in (1, 2):
            branch = f"z9hG4bK{secrets.token_hex(6)}"
            self._request("INVITE", uri, branch, call, tag, number_of_try, offer, fields)
            answer = await self.final(call)
            self._request("ACK", uri, branch, call, tag, number_of_try, "", {}, answer.tag)
            if answer.status != 401 or credentials is None or number_of_try == 2:
                break
            challenges = answer.headers("WWW-Authenticate")
            fields["Authorization"] = credentials.answer(challenges, "INVITE", uri)
        if answer.status == 200:
            contact = re.sub(r"^.*?<?(sip:[^>]*)>?.*$", r"\1", answer.header("Contact"))
            branch = f"z9hG4bK{secrets.token_hex(6)}"
            self._request("BYE", contact, branch, call, tag, 3, "", {}, answer.tag)
            assert (await self.final(call)).status == 200
        return answer

    def _request(
        self,
        method: str,
        uri: str,
        branch: str,
        call: str,
        tag: str,
        sequence: int,
        body: str,
        fields: Mapping[str, str],
        to_tag: str = "",
    ) -> None:
        lines = {
            "Via": f"SIP/2.0/UDP {self.address}:{self.port};branch={branch};rport",
            "Max-Forwards": "70",
            "From": f"<sip:{self.user}@{self.address}>;tag={tag}",
            "To": f"<{uri}>" + (f";tag={to_tag}" if to_tag else ""),
            "Call-ID": call,
            "CSeq": f"{sequence} {method}",
            "Contact": f"<sip:{self.user}@{self.address}:{self.port}>",
            **fields,
            **({"Content-Type": "application/sdp"} if body else {}),
            "Content-Length": str(len(body.encode())),
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.send(f"{method} {uri} SIP/2.0\r\n{head}\r\n{body}")
