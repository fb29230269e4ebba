"""The OpenAPI 3.1 document, made from the routes' table."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter

from foundation.http_edge import Route

_PROBLEM = {
    "type": "object",
    "description": "RFC 9457; members beside these say more",
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
    "required": ["type", "title", "status", "detail"],
}
_PROBLEM_ANSWER = {
    "description": "What went wrong and who erred",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
_CSRF = {
    "name": "X-CSRF-Token",
    "in": "header",
    "required": False,
    "description": "the session's `csrf`; needed with the cookie, not with a bearer token",
    "schema": {"type": "string"},
}
_SIGNED_IN: list[dict[str, list[str]]] = [{"bearer": []}, {"cookie": []}]
_WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class SchemaConflict(Exception):
    """Two models of one name describe different things."""


def openapi_document(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """Raises SchemaConflict."""
    schemas = _Schemas()
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        if route.path.startswith("/api/"):
            paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Anshi", "version": version},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": {"Problem": _PROBLEM, **schemas.found},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": "anshi_session"},
            },
        },
    }


class _Schemas:
    """The named schemas that the operations refer to."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def reference(self, kind: Any, mode: Literal["validation", "serialization"]) -> dict[str, Any]:
        """The schema of a type; models are named and referred to."""
        template = "#/components/schemas/{model}"
        schema = TypeAdapter(kind).json_schema(ref_template=template, mode=mode)
        for name, definition in schema.pop("$defs", {}).items():
            self._add(name, definition)
        if isinstance(kind, type) and issubclass(kind, BaseModel) and "$ref" not in schema:
            self._add(kind.__name__, schema)
            return {"$ref": template.format(model=kind.__name__)}
        return schema

    def _add(self, name: str, schema: dict[str, Any]) -> None:
        if self.found.setdefault(name, schema) != schema:
            raise SchemaConflict(f"two different models are called {name}")


def _operation(route: Route, schemas: _Schemas) -> dict[str, Any]:
    name = re.sub(r"[^a-z0-9]+", "_", route.path.lower()).strip("_")
    operation: dict[str, Any] = {
        "operationId": f"{route.method.lower()}_{name}",
        "summary": route.summary,
        "tags": list(route.tags) or [route.path.split("/")[3]],
        "responses": {str(route.status): _success(route, schemas), "default": _PROBLEM_ANSWER},
    }
    parameters = [*_path_parameters(route), *_query_parameters(route)]
    if not route.public and route.method in _WRITES:
        parameters.append(_CSRF)
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        content = {"application/json": {"schema": schemas.reference(route.body, "validation")}}
        operation["requestBody"] = {"required": True, "content": content}
    if not route.public:
        operation["security"] = _SIGNED_IN
        operation["description"] = _rights(route)
    return operation


def _rights(route: Route) -> str:
    if route.action is None:
        return "For whoever is signed in, guests of a meeting too."
    guests = " Guests may ask for the meeting of their pass." if route.guests else ""
    return f"Needs the right `{route.action.value}`.{guests}"


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)}", route.path)
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    schema = TypeAdapter(route.query).json_schema()
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": field}
        for name, field in schema["properties"].items()
    ]


def _success(route: Route, schemas: _Schemas) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": route.summary}
    if route.returns is not None and route.status != 204:
        schema = schemas.reference(route.returns, "serialization")
        answer["content"] = {"application/json": {"schema": schema}}
    return answer
