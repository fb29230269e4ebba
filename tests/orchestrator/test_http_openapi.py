"""The OpenAPI document says what is served: every route, every schema, every status."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from foundation.http_edge import Exchange, Route
from orchestrator.openapi import SchemaConflict, openapi_document
from tests.orchestrator.http_service import VERSION, Service


@pytest.fixture
async def document(service: Service) -> dict[str, Any]:
    response = await service.client.get("/api/v1/openapi.json")
    assert response.status == 200
    assert response.content_type == "application/json"
    found: dict[str, Any] = await response.json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_head_of_the_document(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    assert document["info"] == {"title": "Anshi", "version": VERSION}
    assert set(document) == {"openapi", "info", "servers", "paths", "components"}


def test_every_route_is_there_and_nothing_else(service: Service, document: dict[str, Any]) -> None:
    served = {(r.method.lower(), r.path) for r in service.routes if r.path.startswith("/api/")}
    assert {(method, path) for method, path, _ in operations(document)} == served


def test_every_reference_resolves(document: dict[str, Any]) -> None:
    found = set(references(document))
    assert len(found) > 10
    for reference in found:
        target: Any = document
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]
        assert isinstance(target, dict)
        assert "type" in target or "anyOf" in target or "enum" in target


NOT_IN_JSON = {
    "/api/v1/streams/{stream}/whep",
    "/api/v1/conferences/{id}/minutes.html",
    "/api/v1/conferences/{id}/minutes.csv",
}


def test_operations_are_whole(service: Service, document: dict[str, Any]) -> None:
    routes = {(route.method.lower(), route.path): route for route in service.routes}
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(names)) == len(names)
    for method, path, operation in operations(document):
        route = routes[method, path]
        assert operation["summary"]
        assert operation["tags"]
        content = operation["responses"][str(route.status)].get("content", {})
        in_json = route.status != 204 and path not in NOT_IN_JSON
        assert ("application/json" in content) == in_json, path
        default = operation["responses"]["default"]["content"]
        assert set(default) == {"application/problem+json"}
        parameters = {(one["in"], one["name"]) for one in operation.get("parameters", [])}
        in_path = {("path", name) for name in re.findall(r"{(\w+)}", path)}
        assert {one for one in parameters if one[0] == "path"} == in_path
        assert ("requestBody" in operation) == (route.body is not None)
        assert ("security" in operation) == (not route.public)
        writes = method in ("post", "patch", "delete") and not route.public
        assert (("header", "X-CSRF-Token") in parameters) == writes


def test_query_of_the_audit(document: dict[str, Any]) -> None:
    after, limit = document["paths"]["/api/v1/audit"]["get"]["parameters"]
    assert (after["name"], after["in"], after["required"]) == ("after", "query", False)
    assert (limit["schema"]["minimum"], limit["schema"]["maximum"]) == (1, 1000)


def test_bodies_say_that_unknown_fields_are_errors(document: dict[str, Any]) -> None:
    schema = document["components"]["schemas"]["SignIn"]
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["name", "password"]


async def _nothing(_exchange: Exchange) -> None:
    return None


def test_two_models_of_one_name_are_found_out() -> None:
    def model(kind: type) -> type[BaseModel]:
        return type("Same", (BaseModel,), {"__annotations__": {"value": kind}})

    routes = [
        Route("GET", f"/api/v1/{kind.__name__}", _nothing, "x", None, returns=model(kind))
        for kind in (int, str)
    ]
    with pytest.raises(SchemaConflict, match="Same"):
        openapi_document(routes, VERSION)
