"""The font in which site names are drawn: the one set, the one set-up brought, or one of the system's."""

from __future__ import annotations

from pathlib import Path

from config.settings import Settings
from orchestrator.resources import PACKAGED_FONT

SYSTEM_FONTS = (
    str(PACKAGED_FONT),
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",  # Debian, Ubuntu, Kylin: fonts-noto-cjk
    "/usr/share/fonts/google-noto-cjk/NotoSansCJK-Regular.ttc",  # Fedora
    "/usr/share/fonts/google-noto-sans-cjk-fonts/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/noto-cjk/NotoSansCJK-Regular.ttc",  # Arch
    "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",  # fonts-wqy-microhei
    "/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc",  # fonts-wqy-zenhei
    "/usr/share/fonts/wqy-microhei/wqy-microhei.ttc",  # openEuler
    "/usr/share/fonts/truetype/droid/DroidSansFallbackFull.ttf",  # fonts-droid-fallback
)


def find_font(settings: Settings | None) -> Path | None:
    """The one set, as it is; else a file with Chinese letters, None if there is none."""
    if settings is not None and settings.font is not None:
        return settings.font
    return next((path for path in map(Path, SYSTEM_FONTS) if path.is_file()), None)
