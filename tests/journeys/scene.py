"""Who sits in front of the cameras in the journeys, and where a mosaic shows them."""

from dataclasses import replace

from tests.peers.baresip import Baresip, Room
from tests.peers.node import ADDRESSES
from tests.peers.picture import BLUE, RED, YELLOW, Colour, Picture, Region, mean_colour, near
from tests.peers.sound import Sound, hears
from tests.peers.waiting import until

WIDE = Room(width=640, height=360)
NANNING = replace(WIDE, user="nanning-room", colour=RED, tone=440, address=ADDRESSES["nanning"])
WUMING = replace(WIDE, user="wuming-room", colour=BLUE, tone=880, address=ADDRESSES["wuming"])
MINE = replace(WIDE, user="mine-room", colour=YELLOW, tone=1320, address=ADDRESSES["mine"])

FULL_TILE = Region(0, 0, 1, 1).tile(0, 0, 1, 1)
TWO_TILES = (
    Region(0, 0.25, 0.5, 0.75).tile(0, 0, 1, 1),
    Region(0.5, 0.25, 1, 0.75).tile(0, 0, 1, 1),
)
FOUR_TILES = tuple(Region(0, 0, 1, 1).tile(x, y, 2, 2) for y in (0, 1) for x in (0, 1))


def seen_in(picture: Picture, tiles: tuple[Region, ...], colours: tuple[Colour, ...]) -> set[Colour]:
    """Which of the colours some tile shows."""
    shown = [mean_colour(picture, tile) for tile in tiles]
    return {colour for colour in colours if any(near(one, colour) for one in shown)}


async def sees_all(
    room: Baresip, tiles: tuple[Region, ...], *colours: Colour, timeout: float = 10.0
) -> Picture:
    """Wait until each colour has a tile of its own; AssertionError with the tiles' colours."""

    async def look() -> tuple[list[Colour], Picture | None]:
        try:
            picture = await room.picture()
        except AssertionError:
            return [], None
        return [mean_colour(picture, tile) for tile in tiles], picture

    def each(seen: tuple[list[Colour], Picture | None]) -> bool:
        return seen[1] is not None and seen_in(seen[1], tiles, colours) == set(colours)

    _, picture = await until(look, each, f"{room.room.user} to see {colours}", timeout)
    assert picture is not None
    return picture


def last_heard(room: Baresip, seconds: float = 1.0) -> Sound:
    sound = room.heard(seconds)
    assert sound is not None, f"{room.room.user} hears nothing at all"
    return sound


async def falls_silent(room: Baresip, frequency: float, timeout: float, seconds: float = 0.25) -> None:
    """Wait until the newest `seconds` do not hold the tone any more."""

    async def listen() -> bool:
        return hears(last_heard(room, seconds), frequency)

    await until(
        listen, lambda heard: not heard, f"{room.room.user} not to hear {frequency} Hz", timeout, 0.05
    )
