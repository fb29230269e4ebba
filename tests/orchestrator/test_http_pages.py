"""The built pages: cached for ever where names change with content, asked for anew where not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from yarl import URL

from tests.orchestrator.http_service import Service, problem, serving

INDEX = "<!doctype html><title>安视</title>"


@pytest.fixture
async def service(sqlite_file: Path, tmp_path: Path) -> AsyncIterator[Service]:
    pages = tmp_path / "dist"
    (pages / "assets").mkdir(parents=True)
    (pages / "index.html").write_text(INDEX, encoding="utf-8")
    (pages / "favicon.svg").write_text("<svg/>", encoding="utf-8")
    (pages / "assets" / "index-D2iJ.js").write_text("export {};", encoding="utf-8")
    (tmp_path / "secret.txt").write_text("outside", encoding="utf-8")
    async with serving(sqlite_file, pages=pages) as service:
        yield service


@pytest.mark.parametrize(
    "path", ["/", "/index.html", "/meetings", "/meetings/7/room", "/sign-in?next=/users", "/apis"]
)
async def test_the_page_stands_at_every_path_of_its_own(service: Service, path: str) -> None:
    response = await service.client.get(path)
    assert await response.text() == INDEX
    assert (response.status, response.content_type, response.charset) == (200, "text/html", "utf-8")
    assert response.headers["Cache-Control"] == "no-cache"
    same = {"If-None-Match": response.headers["ETag"]}
    assert (await service.client.get(path, headers=same)).status == 304


async def test_assets_are_kept_for_ever(service: Service) -> None:
    response = await service.client.get("/assets/index-D2iJ.js")
    assert await response.text() == "export {};"
    assert "javascript" in response.content_type
    assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    icon = await service.client.get("/favicon.svg")
    assert (icon.content_type, icon.headers["Cache-Control"]) == ("image/svg+xml", "no-cache")


async def test_missing_asset_is_no_page_and_not_kept(service: Service) -> None:
    """After an update an old page must notice, not run HTML as a script for a year."""
    for path in ("/assets/index-OLD.js", "/assets/", "/assets", "/assets/%2e%2e/%2e%2e/secret.txt"):
        response = await service.client.get(URL(path, encoded=True))
        await problem(response, 404)
        assert "Cache-Control" not in response.headers


@pytest.mark.parametrize("path", ["/api/v1/nothing", "/api", "/live/x/index.m3u8"])
async def test_services_own_paths_are_no_pages(service: Service, path: str) -> None:
    await problem(await service.client.get(path), 404)


async def test_methods_stay_right_beside_the_pages(service: Service) -> None:
    await problem(await service.client.get("/api/v1/guest-session"), 405)
    await problem(await service.client.post("/api/v1/nothing", json={}), 404)
    response = await service.client.post("/meetings", json={})
    await problem(response, 405)
    assert response.headers["Allow"] == "GET, HEAD, OPTIONS"
    assert (await service.client.head("/meetings")).status == 200
