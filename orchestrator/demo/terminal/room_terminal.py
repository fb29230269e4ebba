"""A room terminal on our own stack, for demonstrations, the soak run and journeys with many or odd terminals.

    async with Studio() as studio:
        async with RoomTerminal(TerminalSettings("room", colour="red", tone_hz=440), studio) as terminal:
            await terminal.dial("sip:800800@127.0.0.1:5060")
            await terminal.sees("blue", CENTRE, timeout=10)
            await terminal.hears(1000, timeout=10)
            await terminal.hang_up()

It answers calls while it has none. A terminal without a studio makes one of its own. It is a user of the
stack: what it knows of a meeting is what comes over the wire.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from foundation.desks import Direction, Refusal, RefusalKind
from mcu_bridge.negotiation import packetization_mode
from orchestrator.demo.terminal.footage import Rgb
from orchestrator.demo.terminal.media import TerminalMedia
from orchestrator.demo.terminal.onlooker import Onlooker
from orchestrator.demo.terminal.senses import Bell
from orchestrator.demo.terminal.session import DialRefused, Endpoint, Session
from orchestrator.demo.terminal.settings import TerminalReport, TerminalSettings, WireSecond, rgb
from orchestrator.demo.terminal.studio import Studio
from protocols.sip.digest import Login
from protocols.sip.grammar import NO_PARAMETERS
from protocols.sip.headers import NameAddress
from protocols.sip.uri import SipUri, parse_uri
from signaling.media_description import read_sdp
from signaling.sip_call import Call
from signaling.sip_core import SipPolicy
from signaling.sip_events import CallOver, EndCause, Ended, InfoReceived, Reinvited, ReinviteRefused
from signaling.sip_incoming import IncomingCall
from signaling.sip_line import FAST_UPDATE, FAST_UPDATE_TYPE
from signaling.sip_listener import ListenerSettings
from signaling.sip_progress import Refused

__all__ = ["DialRefused", "RoomTerminal"]

_NETWORK = "terminal"
_FAREWELL = 1.0
"""Seconds for the peer to answer our BYE when we are switched off."""
_BAD_OFFER = {RefusalKind.NO_COMMON_CODEC: 488, RefusalKind.BAD_DESCRIPTION: 400}


class RoomTerminal(Onlooker):
    """See the module's head; `Onlooker` has what it perceives. Not for more than one call at a time."""

    def __init__(self, settings: TerminalSettings, studio: Studio | None = None) -> None:
        super().__init__(settings)
        self.ended: Ended | None = None
        self._stack = contextlib.AsyncExitStack()
        self._given = studio
        self._session: Session | None = None
        self._last: TerminalMedia | None = None
        self._bell = Bell()
        self._tasks: set[asyncio.Task[None]] = set()

    # --- lifetime -------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        settings = self.settings
        given = self._given
        self._studio = given if given is not None else await self._stack.enter_async_context(Studio())
        self.listen(self._studio)
        port = settings.sip_port
        listener = ListenerSettings(
            _NETWORK,
            settings.bind,
            udp_port=port if settings.transport == "UDP" else None,
            tcp_port=port if settings.transport == "TCP" else None,
        )
        self._endpoint = Endpoint(
            [listener], realm=settings.name, on_call=self._take, policy=SipPolicy(product="Anshi terminal")
        )
        try:
            await self._endpoint.start()
        except BaseException:
            await self._stack.aclose()
            raise
        self._studio.join(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Hang up (unless vanished) and free everything."""
        self._studio.leave(self)
        await self._endpoint.aclose(_FAREWELL)
        await self._endpoint.wait_closed()
        session = self._session
        if session is not None:
            await self._finish(session, Ended(EndCause.LOCAL_BYE, "the terminal was switched off"))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    def tick(self, now: float, wall_clock: float) -> None:
        if self._session is not None:
            self._session.media.tick(now, wall_clock)

    # --- calls ----------------------------------------------------------------------------------------

    @property
    def uri(self) -> str:
        """Where to dial it."""
        port = self._endpoint.port(_NETWORK, self.settings.transport)
        host = f"[{self.settings.bind}]" if ":" in self.settings.bind else self.settings.bind
        return f"sip:{self.settings.name}@{host}:{port};transport={self.settings.transport.lower()}"

    @property
    def in_call(self) -> bool:
        return self._session is not None and self._session.call is not None

    @property
    def media(self) -> TerminalMedia | None:
        """The media of the present call, or of the last: descriptions, hashes, counts."""
        return self._session.media if self._session is not None else self._last

    async def dial(self, uri: str, timeout: float = 20.0) -> None:
        """Call and wait for the answer. Raises DialRefused; RuntimeError while there is a call."""
        session = self._new_session()
        try:
            session.media.offer()
            outgoing = await self._endpoint.invite(
                self._target(uri), self._from(), _NETWORK, session.describe(), login=self._login()
            )
            try:
                async with asyncio.timeout(timeout):
                    outcome = await outgoing.result()
            except TimeoutError:
                outgoing.cancel()
                raise DialRefused(408, f"no answer in {timeout} s") from None
            if isinstance(outcome, Refused):
                raise DialRefused(outcome.status, outcome.reason)
            try:
                session.media.answered(read_sdp(outcome.sdp or b""))
            except Refusal as refusal:
                outcome.call.hang_up("the answer cannot be used")
                raise DialRefused(488, refusal.detail) from refusal
        except BaseException:
            await self._finish(session, None)
            raise
        self._live(session, outcome.call)

    async def hang_up(self) -> None:
        """End the call with BYE; harmless without one."""
        session = self._session
        if session is not None and session.call is not None:
            await session.call.bye()
            await self.until(lambda: self._session is not session, 5.0, "the call to end")

    def vanish(self) -> None:
        """Stop everything without a word: no BYE, no RTCP BYE, no answer to anything. RTP ports stay open and
        deaf until `aclose`; SIP sockets close, as those of a killed process do."""
        if self._session is not None:
            self._session.media.fall_silent()
        self._studio.leave(self)
        self._endpoint.abandon()

    async def hold(self, direction: Direction = Direction.SENDONLY) -> None:
        """Put the peer on hold by a re-INVITE (RFC 3264 8.4). Raises ReinviteRefused, CallOver."""
        await self._reoffer(direction)

    async def resume(self) -> None:
        await self._reoffer(None)

    async def _reoffer(self, held: Direction | None) -> None:
        session = self._session
        if session is None or session.call is None:
            raise RuntimeError(f"{self.settings.name} has no call")
        session.media.offer(held)
        try:
            answer = await session.call.reinvite(session.describe())
        except ReinviteRefused:
            session.media.withdraw()
            raise
        if answer is not None:
            session.media.answered(read_sdp(answer))

    def request_keyframe(self) -> None:
        """Ask the peer for a key frame: PLI or FIR, by INFO where neither was agreed."""
        if self._session is not None:
            self._session.media.ask_keyframe(urgent=True)

    async def show(self, colour: Rgb | str) -> None:
        """Another colour from now on, in this call."""
        if self._session is not None:
            await self._session.media.player.show(rgb(colour))

    async def play(self, hertz: float | None) -> None:
        """Another tone from now on, or silence, in this call."""
        if self._session is not None:
            await self._session.media.player.play(hertz)

    async def present(self) -> None:
        """Take the floor where there is BFCP, and send slides. Raises FloorRefused."""
        media = self._in_call()
        if media.floor is not None:
            await media.floor.request()
        media.second.start()

    async def stop_presenting(self) -> None:
        media = self._in_call()
        media.second.stop()
        if media.floor is not None:
            await media.floor.release()

    @property
    def presents(self) -> bool:
        """Whether it sends slides: a revoked floor ends that."""
        return self._session is not None and self._session.media.second.presents

    def _in_call(self) -> TerminalMedia:
        if self._session is None:
            raise RuntimeError(f"{self.settings.name} has no call")
        return self._session.media

    # --- what it perceives ----------------------------------------------------------------------------

    async def until(self, seen: Callable[[], bool], timeout: float, what: str) -> None:
        """Wait for something of the call itself (in_call, ended). Raises NotPerceived."""
        await self._bell.until(seen, timeout, lambda: f"{self.settings.name} waits for {what}")

    async def answered(self, timeout: float = 10.0) -> None:
        """Wait until a call is up."""
        await self.until(lambda: self.in_call, timeout, "a call")

    async def over(self, timeout: float = 10.0) -> Ended:
        """Wait until no call is left; how the last one ended."""
        await self.until(lambda: self._session is None and self.ended is not None, timeout, "the call's end")
        assert self.ended is not None
        return self.ended

    def sent_at(self, number: int) -> float | None:
        """When this terminal last sent the picture with that number (monotonic seconds)."""
        return None if self.media is None else self.media.player.sent_at(number)

    def wire(self) -> tuple[WireSecond, ...]:
        """IP bytes of media in every second of the last five minutes, ten windows a second."""
        return () if self.media is None else tuple(self.media.wire.seconds)

    def report(self) -> TerminalReport:
        media, screen, ear = self.media, self.screen, self.ear
        wire = None if media is None else media.wire
        picture, sound = (None, None) if media is None else (media.picture, media.sound)
        return TerminalReport(
            name=self.settings.name,
            in_call=self.in_call,
            video_codec=None
            if picture is None
            else _named(picture.codec.name, packetization_mode(picture.codec)),
            audio_codec=None if sound is None else sound.codec.name,
            first_frame_after=screen.first_frame_after,
            frames_received=screen.frames_received,
            frames_decoded=screen.frames_decoded,
            frames_damaged=screen.frames_damaged,
            frames_sent=0 if media is None else media.player.frames_sent,
            key_frames_received=screen.key_frames,
            key_frames_sent=0 if media is None else media.player.key_frames_sent,
            size=screen.size,
            source_changes=screen.source_changes,
            longest_freeze=screen.longest_freeze(),
            sound_packets=ear.packets,
            longest_sound_gap=ear.longest_gap,
            sent_bytes=0 if wire is None else wire.sent,
            received_bytes=0 if wire is None else wire.received,
            peak_sent_bps=0 if wire is None else 8 * wire.peak_sent,
            peak_received_bps=0 if wire is None else 8 * wire.peak_received,
        )

    # --- inside ---------------------------------------------------------------------------------------

    def _new_session(self) -> Session:
        if self._session is not None:
            raise RuntimeError(f"{self.settings.name} is in a call")
        self.ended = None
        media = TerminalMedia(
            self.settings, self._studio, self.screen, self.ear, self._ask_fast_update, self.second_screen
        )
        self._session = Session(media)
        return self._session

    def _live(self, session: Session, call: Call) -> None:
        session.call = call
        session.follower = self._spawn(self._follow(session, call))
        self._bell.ring()

    async def _take(self, incoming: IncomingCall) -> None:
        """Somebody calls: answer, unless there is a call already."""
        if self._session is not None:
            incoming.reject(486)
            return
        if not self.settings.answers:
            incoming.ring()
            await incoming.wait_cancelled()
            return
        session = self._new_session()
        try:
            if incoming.offer is not None:
                session.media.answer(read_sdp(incoming.offer))
                call = incoming.accept(session.describe())
            else:
                session.media.offer()
                call = incoming.accept(session.describe())
                session.media.answered(read_sdp(await call.wait_established() or b""))
        except Refusal as refusal:
            await self._finish(session, None)
            if not incoming.is_answered:
                incoming.reject(_BAD_OFFER.get(refusal.kind, 500), refusal.detail)
            else:
                call.hang_up("the answer cannot be used")
            return
        except BaseException:
            await self._finish(session, None)
            raise
        self._live(session, call)

    async def _follow(self, session: Session, call: Call) -> None:
        """What the peer does in the call, to its end."""
        async for event in call.events():
            match event:
                case Reinvited():
                    await self._reinvited(session, event)
                case InfoReceived() if b"picture_fast_update" in event.body:
                    session.media.player.restart()
                case Ended():
                    session.follower = None
                    await self._finish(session, event)

    async def _reinvited(self, session: Session, event: Reinvited) -> None:
        media = session.media
        try:
            if event.offer is not None:
                media.answer(read_sdp(event.offer))
                event.answer(session.describe())
                return
            media.offer()
            answer = await event.answer(session.describe())
            if answer is not None:
                media.answered(read_sdp(answer))
        except Refusal as refusal:
            event.refuse(_BAD_OFFER.get(refusal.kind, 500), refusal.detail)

    async def _finish(self, session: Session, ended: Ended | None) -> None:
        if self._session is session:
            self._session, self._last = None, session.media
            self.ended = ended or self.ended
        if session.follower is not None:
            session.follower.cancel()
        await session.media.aclose()
        self._bell.ring()

    def _ask_fast_update(self) -> None:
        if self._session is not None and self._session.call is not None:
            self._spawn(self._send_fast_update(self._session.call))

    async def _send_fast_update(self, call: Call) -> None:
        with contextlib.suppress(CallOver):
            await call.info(FAST_UPDATE_TYPE, FAST_UPDATE)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=f"terminal {self.settings.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _login(self) -> Login | None:
        settings = self.settings
        if settings.username is None or settings.password is None:
            return None
        return Login(settings.username, settings.password)

    def _from(self) -> NameAddress:
        port = self._endpoint.port(_NETWORK, self.settings.transport)
        user = self.settings.username or self.settings.name
        return NameAddress(SipUri(self.settings.bind, user, port), self.settings.display_name)

    def _target(self, uri: str) -> SipUri:
        """The URI with our transport, unless it names one. Raises ValueError for other than SIP."""
        target = parse_uri(uri)
        if not isinstance(target, SipUri):
            raise ValueError(f"{uri} is no SIP address")
        if target.transport is not None:
            return target
        named = NO_PARAMETERS.with_value("transport", self.settings.transport.lower())
        if target.parameters != NO_PARAMETERS:
            named = target.parameters.with_value("transport", self.settings.transport.lower())
        return replace(target, parameters=named)


def _named(codec: str, mode: int) -> str:
    """As in the settings."""
    return f"H264/{mode}" if codec == "H264" else codec
