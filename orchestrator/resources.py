"""Files that set-up makes beside the code: the built pages and the font of site names."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "web" / "dist"
PACKAGED_FONT = ROOT / "web/node_modules/@expo-google-fonts/noto-sans-sc/500Medium/NotoSansSC_500Medium.ttf"


def pages_folder() -> Path | None:
    """The built pages, None before set-up has built them."""
    return PAGES if (PAGES / "index.html").is_file() else None
