"""The torture messages of RFC 4475 by their names, written anew from what its text says of each.

`<via>` stands for the sent-by of whoever sends it. Where the text wants bytes that no source file likes, they
are escapes. A body's length is counted, unless the message is about a wrong one.
"""

from __future__ import annotations

SDP = b"v=0\r\no=mhandley 29739 7272939 IN IP4 192.0.2.3\r\ns=-\r\nc=IN IP4 192.0.2.4\r\nt=0 0\r\n" + (
    b"m=audio 49217 RTP/AVP 0 12\r\nm=video 3227 RTP/AVP 31\r\na=rtpmap:31 LPC\r\n"
)


def message(head: str, body: bytes = b"", *, length: bool = True) -> bytes:
    """Lines as they stand, ended by CR LF; the Content-Length put last unless it is the message's own."""
    lines = head.strip("\n").encode("utf-8", "surrogateescape").replace(b"\n", b"\r\n")
    counted = b"\r\nContent-Length: %d" % len(body) if length else b""
    return lines + counted + b"\r\n\r\n" + body


def plain(
    method: str, uri: str, *lines: str, body: bytes = b"", length: bool = True, **changes: str
) -> bytes:
    """A request with the headers every one needs; `changes` replace values (underscores for hyphens)."""
    fields = {
        "Via": "SIP/2.0/UDP <via>;branch=z9hG4bKkdjuw",
        "Max-Forwards": "70",
        "From": "<sip:caller@example.org>;tag=33242",
        "To": "<sip:j.user@example.com>",
        "Call-ID": "torture.0ha0isndaksdj@192.0.2.1",
        "CSeq": f"8 {method}",
        **({"Contact": "<sip:caller@<via>>"} if method == "INVITE" else {}),
        **({"Content-Type": "application/sdp"} if body else {}),
    }
    fields.update({name.replace("_", "-"): value for name, value in changes.items()})
    head = "".join(f"{name}: {value}\n" for name, value in fields.items() if value)
    return message(
        f"{method} {uri} SIP/2.0\n{head}" + "".join(f"{line}\n" for line in lines), body, length=length
    )


USER = "sip:user@example.com"
LONG = "longvalue" * 30
ODD_USER = "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"
ODD_METHOD = "!interesting-Method0123456789_*+`.%indeed'~"

VALID: dict[str, bytes] = {
    # 3.1.1.1 white space, folding, escaped quotes, empty and unknown values, a Via without the magic cookie
    "wsinv": message(
        "INVITE sip:vivekg@chair-dnrc.example.com;unknownparam SIP/2.0\n"
        "TO :\n sip:vivekg@chair-dnrc.example.com ;   unknown    = 1918181833n\n"
        'from   : "J Rosenberg \\\\\\""       <sip:jdrosen@example.com>\n  ;\n  tag = 98asjd8\n'
        "MaX-fOrWaRdS: 0068\nCall-ID: wsinv.ndaksdj@192.0.2.1\n"
        f"Content-Length   : {len(SDP)}\n"
        "cseq: 0009\n  INVITE\n"
        "Via  : SIP  /   2.0\n /UDP\n    <via>;branch=390skdjuw\n"
        "s :\nNewFangledHeader:   newfangled value\n continued newfangled value\n"
        "UnknownHeaderWithUnusualValue: ;;,,;;,;\nContent-Type: application/sdp\n"
        "Route:\n <sip:services.example.com;lr;unknownwith=value;unknown-no-value>\n"
        "v:  SIP  / 2.0  / TCP     spindle.example.com   ;\n  branch  =   z9hG4bK9ikj8  ,\n"
        " SIP  /    2.0   / UDP  192.168.255.111   ; branch=\n z9hG4bK30239\n"
        'm:"Quoted string \\"\\"" <sip:jdrosen@<via>> ; newparam =\n      newvalue ;\n'
        "  secondparam ; q = 0.33",
        SDP,
        length=False,
    ),
    # 3.1.1.2 every character that a method, a URI, a display name, a token and a Call-ID may have
    "intmeth": message(
        f"{ODD_METHOD} sip:{ODD_USER}@example.com SIP/2.0\n"
        "Via: SIP/2.0/UDP <via>;branch=z9hG4bK-.!%66*_+`'~\n"
        f'To: "BEL:\\\x07 NUL:\\\x00 DEL:\\\x7f" <sip:{ODD_USER}@example.com>\n'
        "From: token1~` token2'+_ token3*%!.- <sip:mundane@example.com>"
        ";fromParam''~+*_!.-%=\"работающий\";tag=_token~1'+`*%!-.\n"
        "Call-ID: intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{\n"
        f"CSeq: 139122385 {ODD_METHOD}\nMax-Forwards: 255\n"
        "extensionHeader-!.%*+_`'~:大停電"
    ),
    # 3.1.1.3 escapes in a user part, which are no structure
    "esc01": plain(
        "INVITE",
        "sip:sips%3Auser%40example.com@example.net",
        body=SDP,
        To="sip:%75se%72@example.com",
        From="<sip:I%20have%20spaces@example.net>;tag=938",
        Contact="<sip:cal%6Cer@<via>;%6C%72;n%61me=v%61lue%25%34%31>",
    ),
    # 3.1.1.4 escaped zero bytes
    "escnull": plain(
        "REGISTER",
        "sip:example.com",
        "Contact: <sip:%00@host5.example.com>",
        "Contact: <sip:%00%00@host5.example.com>",
        To="sip:null-%00-null@example.com",
        From="sip:null-%00-null@example.com;tag=839923423",
    ),
    # 3.1.1.5 a percent sign where it is no escape
    "esc02": plain(
        "RE%47IST%45R",
        "sip:registrar.example.com",
        'Contact: <sip:alias1@host1>, "%Z%45" <sip:a@h>',
        To='"%Z%45" <sip:resource@example.com>',
        From='"%Z%45" <sip:resource@example.com>;tag=f232jadfj23',
    ),
    # 3.1.1.6 no space before an angle bracket
    "lwsdisp": plain("OPTIONS", USER, From="caller<sip:caller@example.com>;tag=323"),
    # 3.1.1.7 long values everywhere, thirty Vias
    "longreq": plain(
        "INVITE",
        USER,
        f"Unknown-{LONG}: unknown-{LONG}-value; unknown-{LONG}-parameter-name = {LONG}",
        *(f"v: SIP/2.0/TCP sip{n:02}.example.com" for n in range(1, 35)),
        body=SDP,
        To=f'"I have a user name of {LONG} proportion" <sip:user@example.com:6000;unknownparam1={LONG};'
        f"longparam{LONG}=shortvalue;very{LONG}ParameterNameWithNoValue>",
        From=f"sip:{LONG}@example.net;tag=12{LONG}34;unknownheaderparam{LONG}={LONG};unknownheader{LONG}ValuelessName",
        Call_ID=f"longreq.one{LONG}",
        Contact=f"<sip:amazinglylongcallername{LONG}@<via>>",
    ),
    # 3.1.1.8 a second request behind the first in one datagram
    "dblreq": plain(
        "REGISTER",
        "sip:example.com",
        "Contact: <sip:j.user@host.example.com>",
        From="<sip:j.user@example.com>;tag=43251j3j324",
    )
    + plain(
        "INVITE",
        "sip:joe@example.com",
        body=SDP,
        Call_ID="dblreq.second",
        Via="SIP/2.0/UDP <via>;branch=z9hG4bK2",
    ),
    # 3.1.1.9 a semicolon in a user part
    "semiuri": plain("OPTIONS", "sip:user;par=u%40example.net@example.com", "Accept: application/sdp"),
    # 3.1.1.10 transports of all kinds in Via
    "transports": plain(
        "OPTIONS",
        USER,
        "Via: SIP/2.0/SCTP t2.example.com;branch=z9hG4bKklasjdhf",
        "Via: SIP/2.0/TLS t3.example.com;branch=z9hG4bK2980unddj",
        "Via: SIP/2.0/UNKNOWN t4.example.com;branch=z9hG4bKasd0f3en",
        "Via: SIP/2.0/TCP t5.example.com;branch=z9hG4bK0a9idfnee",
    ),
    # 3.1.1.11 a body of several parts, one of them bytes that are no text
    "mpart01": plain(
        "MESSAGE",
        "sip:kumiko@example.org",
        "MIME-Version: 1.0",
        body=b"--7a9cbec02ceef655\r\nContent-Type: text/plain\r\n\r\nHello\r\n--7a9cbec02ceef655\r\n"
        b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        b"\x30\x82\x01\x52\x00\xff\r\n\r\n--\x89\r\n--7a9cbec02ceef655--",
        Content_Type="multipart/mixed;boundary=7a9cbec02ceef655",
    ),
    # 3.4.1 a client of RFC 2543: no branch, no From tag, no Max-Forwards, a strict route
    "inv2543": plain(
        "INVITE",
        "sip:UserB@example.com",
        "Record-Route: <sip:UserB@<via>;maddr=<host>>",
        body=SDP,
        Via="SIP/2.0/UDP <via>",
        Max_Forwards="",
        From="<sip:+13035551111@ift.client.example.net;user=phone>",
        To="sip:+16505552222@ss1.example.net;user=phone",
        Call_ID="inv2543.1717@ift.client.example.com",
        CSeq="56 INVITE",
    ),
}

RESPONSES: dict[str, bytes] = {
    # 3.1.1.12 and 13: a reason phrase of any text, and none at all
    "unreason": message(
        "SIP/2.0 200 = 2**3 * 5**2 но сто - простое\n"
        "Via: SIP/2.0/UDP 192.0.2.198;branch=z9hG4bK1324923\nCall-ID: unreason.1234ksdfak3j2erwedfsASdf\n"
        "CSeq: 35 INVITE\nFrom: sip:user@example.com;tag=11141343\nTo: sip:user@example.edu;tag=2229\n"
        "Content-Type: application/sdp\nContact: <sip:user@host198.example.com>",
        SDP,
    ),
    "noreason": message(
        "SIP/2.0 100 \nVia: SIP/2.0/UDP 192.0.2.105;branch=z9hG4bK2398ndaoe\n"
        "Call-ID: noreason.asndj203\nCSeq: 35 INVITE\nFrom: <sip:user@example.com>;tag=39ansfi3\n"
        "To: <sip:user@example.edu>;tag=902jndnke3\nContact: <sip:user@host105.example.com>"
    ),
    # 3.1.2.5 numbers beyond all bounds
    "scalarlg": message(
        "SIP/2.0 503 Service Unavailable\n"
        "Via: SIP/2.0/TCP host129.example.com;branch=z9hG4bKzzxdiwo34sw;received=192.0.2.129\n"
        "To: <sip:user@example.com>\nFrom: <sip:other@example.net>;tag=2easdjfejw\n"
        "CSeq: 9292394834772304023312 OPTIONS\nCall-ID: scalarlg.noase0of0234hn2qofoaf0232aewf2394r\n"
        'Retry-After: 949302838503028349304023988\nWarning: 1812 overture "In Progress"'
    ),
    # 3.1.2.19 a status code that is none
    "bigcode": message(
        "SIP/2.0 4294967301 better not break the receiver\n"
        "Via: SIP/2.0/UDP 192.0.2.105;branch=z9hG4bK2398ndaoe\nCall-ID: bigcode.asdof3uj203\n"
        "CSeq: 353494 INVITE\nFrom: <sip:user@example.com>;tag=39an\nTo: <sip:user@example.edu>;tag=902j"
    ),
    # 3.3.10 a response that would have to be sent on to everybody
    "bcast": message(
        "SIP/2.0 200 OK\nVia: SIP/2.0/UDP 192.0.2.198;branch=z9hG4bK1324923\n"
        "Via: SIP/2.0/UDP 255.255.255.255;branch=z9hG4bK1saber23\nCall-ID: bcast.0384840201234\n"
        "CSeq: 35 INVITE\nFrom: sip:user@example.com;tag=11141343\nTo: sip:user@example.edu;tag=2229\n"
        "Content-Type: application/sdp\nContact: <sip:user@host28.example.com>",
        SDP,
    ),
}

INVALID: dict[str, bytes] = {
    # 3.1.2.1 separators without anything between them
    "badinv01": plain(
        "INVITE",
        USER,
        'Contact: "Joe" <sip:joe@example.org>;;;;',
        Via="SIP/2.0/UDP <via>;;,;,,",
        Contact="",
        body=SDP,
    ),
    # 3.1.2.2 and 3: more body announced than there is; less than nothing
    "clerr": plain("INVITE", USER, "Content-Length: 9999", body=SDP, length=False),
    "ncl": plain("INVITE", USER, "Content-Length: -999", body=SDP, length=False),
    # 3.1.2.4 numbers beyond all bounds
    "scalar02": plain(
        "REGISTER",
        "sip:example.com",
        "Expires: 10000000000000000000000000000",
        "Contact: <sip:user@host129.example.com>;expires=280297596632815",
        CSeq="36893488147419103232 REGISTER",
        Max_Forwards="300",
    ),
    # 3.1.2.6 and 7: a quotation that does not end; a Request-URI in angle brackets
    "quotbal": plain("INVITE", USER, body=SDP, To='"Mr. J. User <sip:j.user@example.com>'),
    "ltgtruri": plain("INVITE", "<sip:user@example.com>", body=SDP),
    # 3.1.2.8, 9 and 10: spaces in the Request-URI, between the parts of the start line, and behind them
    "lwsruri": plain("INVITE", "sip:user@example.com; lr", body=SDP),
    "lwsstart": plain("INVITE", " sip:user@example.com ", body=SDP),
    "trws": plain("OPTIONS", "sip:remote-target@example.com").replace(b" SIP/2.0\r\n", b" SIP/2.0  \r\n", 1),
    # 3.1.2.11 headers in the Request-URI
    "escruri": plain("INVITE", "sip:user@example.com?Route=%3Csip:example.com%3E", body=SDP),
    # 3.1.2.12 a date that is not in GMT
    "baddate": plain("INVITE", USER, "Date: Fri, 01 Jan 2010 16:00:00 EST", body=SDP),
    # 3.1.2.13 a Contact with headers and without brackets
    "regbadct": plain(
        "REGISTER", "sip:example.com", "Contact: sip:user@example.com?Route=%3Csip:sip.example.com%3E"
    ),
    # 3.1.2.14 and 15: spaces around a URI in brackets; a comma in a display name without quotes
    "badaspec": plain("OPTIONS", "sip:user@example.org", To='"Watson, Thomas" < sip:t.watson@example.org >'),
    "baddn": plain(
        "OPTIONS", "sip:t.watson@example.org", From="Bell, Alexander <sip:a.g.bell@example.com>;tag=43"
    ),
    # 3.1.2.16 another version of SIP
    "badvers": plain("OPTIONS", "sip:t.watson@example.org").replace(b"SIP/2.0\r\n", b"SIP/7.0\r\n", 1),
    # 3.1.2.17 and 18: start line and CSeq do not agree, of a known and of an unknown method
    "mismatch01": plain("OPTIONS", USER, CSeq="8 INVITE"),
    "mismatch02": plain("NEWMETHOD", USER, CSeq="8 INVITE", Content_Type="application/sdp", body=SDP),
}

MEANING: dict[str, bytes] = {
    # 3.2.1 the magic cookie and nothing behind it
    "badbranch": plain("OPTIONS", USER, Via="SIP/2.0/UDP <via>;branch=z9hG4bK"),
    # 3.3.1 To, From and Call-ID missing
    "insuf": plain("INVITE", USER, body=SDP, To="", From="", Call_ID=""),
    # 3.3.2, 3 and 4: schemes nobody knows, that only look like one, and in To, From and Contact
    "unkscm": plain("OPTIONS", "nobodyKnowsThisScheme:totallyopaquecontent"),
    "novelsc": plain("OPTIONS", "soap.beep://192.0.2.103:3002"),
    "unksm2": plain(
        "REGISTER",
        "sip:example.com",
        "Contact: <name:John_Smith>",
        To="isbn:2983792873",
        From="<http://www.example.com>;tag=3234233",
    ),
    # 3.3.5 extensions that nobody has
    "bext01": plain(
        "OPTIONS",
        USER,
        "Require: nothingSupportsThis, nothingSupportsThisEither",
        "Proxy-Require: noProxiesSupportThis, norDoAnyProxiesSupportThis",
    ),
    # 3.3.6 a body of a type nobody knows
    "invut": plain(
        "INVITE",
        USER,
        body=b'<audio>\r\n <pcmu port="443"/>\r\n</audio>\r\n',
        Content_Type="application/unknownformat",
    ),
    # 3.3.7 credentials of a scheme nobody knows
    "regaut01": plain(
        "REGISTER",
        "sip:example.com",
        "Contact: <sip:j.user@host.example.com>",
        "Authorization: NoOneKnowsThisScheme opaque-data=here",
    ),
    # 3.3.8 and 9: several of what may stand once
    "multi01": plain(
        "INVITE",
        USER,
        "CSeq: 59 INVITE",
        "Call-ID: multi01.98asdh@192.0.2.2",
        "Max-Forwards: 5",
        "From: sip:other@example.net;tag=93942939o2",
        "To: sip:user@example.com",
        "Contact: <sip:a@<via>>",
        body=SDP,
    ),
    "mcl01": plain(
        "OPTIONS",
        USER,
        "Content-Length: 13",
        "Content-Length: 5",
        body=b"There's no way to know how many",
        length=False,
    ),
    # 3.3.11 nothing left of Max-Forwards, at its target
    "zeromf": plain("OPTIONS", USER, Max_Forwards="0"),
    # 3.3.12, 13 and 14: whose parameter it is; headers in a Contact
    "cparam01": plain(
        "REGISTER", "sip:example.com", "Contact: sip:+19725552222@gw1.example.net;unknownparam"
    ),
    "cparam02": plain(
        "REGISTER", "sip:example.com", "Contact: <sip:+19725552222@gw1.example.net;unknownparam>"
    ),
    "regescrt": plain("REGISTER", "sip:example.com", "Contact: <sip:user@example.com?Route=%3Csip:h%3E>"),
    # 3.3.15 an answer of a type that we cannot give
    "sdp01": plain("INVITE", USER, "Accept: text/nobodyKnowsThis", body=SDP),
}

REQUESTS = VALID | INVALID | MEANING
ALL = REQUESTS | RESPONSES


def sent_by(data: bytes, host: str, port: int) -> bytes:
    """The message as that peer sends it; a Content-Length that was right is right again."""
    return data.replace(b"<via>", f"{host}:{port}".encode()).replace(b"<host>", host.encode())
