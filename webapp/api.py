"""The HTTP API's frame: who may call it, and how it answers when something is wrong.

The routes stand with what they are about (`api.py` of catalogue, datasets and runs) and are mounted in
webapp/urls.py. Every error is `{"error": {"code", "message", "fields"}}`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import BadRequest, RequestDataTooBig, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.http.multipartparser import MultiPartParserError
from django.shortcuts import render
from django.urls import URLPattern, URLResolver
from django.views.decorators.http import require_safe
from ninja import NinjaAPI, Schema
from ninja.errors import AuthenticationError, HttpError, ValidationError
from ninja.parser import Parser
from ninja.security import HttpBearer

from webapp.accounts import tokens
from webapp.accounts.access import may_edit
from webapp.accounts.models import ApiToken
from webapp.storable import fault_of

log = logging.getLogger(__name__)
MOST_ROWS = 2**31 - 1  # to skip in a list: no list is longer, and Postgres counts no further than a bigint


class ApiRequest(HttpRequest):
    """A request with a token."""

    auth: ApiToken


class ApiError(Exception):
    """Answer with this status; `fields` says what to change where several things are wrong."""

    def __init__(self, status: int, code: str, message: str, fields: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.fields = status, code, message, fields or {}


class ErrorBody(Schema):
    """What is wrong, for a program (`code`), for a person (`message`), and by field."""

    code: str
    message: str
    fields: dict[str, str] = {}


class Error(Schema):
    """Every error looks like this."""

    error: ErrorBody


ERRORS: dict[frozenset[int], Any] = {frozenset({400, 401, 403, 404, 405, 409, 410, 413, 422}): Error}


class Token(HttpBearer):
    """`Authorization: Bearer <token>`; made in the profile or by `manage.py token`. Cookies count for nothing."""

    def authenticate(self, request: HttpRequest, token: str) -> ApiToken | None:
        return tokens.authenticate(token)


class StorableParser(Parser):
    """Lets in only what Postgres can keep or be asked for (webapp/storable.py)."""

    def parse_body(self, request: HttpRequest) -> Any:
        body = super().parse_body(request)
        _check_storable(body)
        return body

    def parse_querydict(self, data: Any, list_fields: list[str], request: HttpRequest) -> Any:
        found = super().parse_querydict(data, list_fields, request)
        _check_storable(found)
        return found


def _check_storable(value: Any) -> None:
    """Raises ApiError 422 with the outermost field that cannot be kept."""
    for field, item in value.items() if isinstance(value, dict) else [("body", value)]:
        told = fault_of(field)
        wrong = "body" if told else field
        if told := told or fault_of(item):
            raise ApiError(422, "invalid", f"{wrong} {told}.", {wrong: told})


api = NinjaAPI(
    title="Tuneboard",
    version="1",
    description="Everything that the pages can do, for scripts. Start with docs/api.md.",
    auth=Token(),
    docs_url=None,
    openapi_url="/openapi.json",
    urls_namespace="api",
    parser=StorableParser(),
)


def error_answer(status: int, code: str, message: str, fields: dict[str, str] | None = None) -> JsonResponse:
    return JsonResponse({"error": {"code": code, "message": message, "fields": fields or {}}}, status=status)


def require_editor(request: Any) -> None:
    """For operations that change something; raises ApiError 403 for viewers."""
    if not may_edit(request.auth.user, request.auth.workspace):
        raise ApiError(403, "forbidden", "This token's user may look at the workspace but not change it.")


@api.exception_handler(ApiError)
def _api_error(request: HttpRequest, error: Any) -> HttpResponse:
    return error_answer(error.status, error.code, error.message, error.fields)


@api.exception_handler(AuthenticationError)
def _unauthenticated(request: HttpRequest, error: Any) -> HttpResponse:
    answer = error_answer(
        401,
        "unauthenticated",
        "Send a valid token: Authorization: Bearer <token>. Your profile page makes one.",
    )
    answer["WWW-Authenticate"] = 'Bearer realm="Tuneboard"'
    return answer


@api.exception_handler(ValidationError)
def _invalid(request: HttpRequest, error: Any) -> HttpResponse:
    fields = {
        ".".join(str(part) for part in item["loc"][1:] if part not in {"payload", "body"}) or "body": item[
            "msg"
        ]
        for item in error.errors
    }
    first = next(iter(fields.items()), ("body", "is not valid"))
    return error_answer(422, "invalid", f"{first[0]}: {first[1]}", fields)


@api.exception_handler(Http404)
def _not_found(request: HttpRequest, error: Any) -> HttpResponse:
    return error_answer(404, "not_found", "There is no such thing here, or it is not yours to see.")


@api.exception_handler(HttpError)
def _http_error(request: HttpRequest, error: Any) -> HttpResponse:
    if isinstance(error.__cause__, ApiError):  # of the parser, which ninja wraps
        return _api_error(request, error.__cause__)
    if isinstance(error.__cause__, ValueError | RecursionError):
        return error_answer(400, "bad_request", "The body is not JSON in UTF-8.")
    return error_answer(error.status_code, "bad_request", str(error))


@api.exception_handler(RequestDataTooBig)
def _too_big(request: HttpRequest, error: Any) -> HttpResponse:
    return error_answer(413, "too_large", "The body is too large; only files may be of such a size.")


@api.exception_handler(SuspiciousOperation)
@api.exception_handler(BadRequest)
@api.exception_handler(MultiPartParserError)
def _malformed(request: HttpRequest, error: Any) -> HttpResponse:
    return error_answer(400, "bad_request", f"The request cannot be read: {error}")


@api.exception_handler(Exception)
def _unexpected(request: HttpRequest, error: Any) -> HttpResponse:
    log.exception("%s %s failed", request.method, request.path, exc_info=error)
    return error_answer(500, "internal", "Something went wrong here; the server's log has the details.")


def api_urls() -> tuple[list[URLPattern | URLResolver], str, str]:
    """The API's addresses. Each asks for a token itself, so the sign-in page stays out of it."""
    patterns, app_name, namespace = api.urls
    for pattern in patterns:
        if pattern.callback is not None:
            pattern.callback = login_not_required(_method_checked(pattern.callback))
    return patterns, app_name, namespace


def _method_checked(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """ninja answers a wrong method before any exception handler, in a shape of its own."""

    @wraps(view)
    def answer(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        response = view(request, *args, **kwargs)
        if not isinstance(response, HttpResponseNotAllowed):
            return response
        allowed = ", ".join(sorted(response["Allow"].split(", ")))
        refused = error_answer(
            405, "method_not_allowed", f"{request.method} cannot be used here; this takes: {allowed}."
        )
        refused["Allow"] = allowed
        return refused

    return answer


@login_not_required
def no_such_path(request: HttpRequest, *_args: object, **_kwargs: object) -> HttpResponse:
    """Any other path under /api/: an error in the API's own shape."""
    return error_answer(
        404, "not_found", f"The API has no {request.path}; /api/v1/openapi.json lists what it has."
    )


@require_safe
def docs(request: HttpRequest) -> HttpResponse:
    """The API's reference as a page of ours, made of its OpenAPI document."""
    schema: dict[str, Any] = dict(api.get_openapi_schema())
    operations = [
        {
            "method": method.upper(),
            "path": path,
            "summary": operation.get("summary", ""),
            "text": operation.get("description", ""),
            "parameters": [
                {
                    "name": item["name"],
                    "where": item["in"],
                    "required": item.get("required", False),
                    "type": _type_of(item.get("schema", {})),
                    "text": item.get("description", ""),
                }
                for item in operation.get("parameters", [])
            ],
            "body": _body_of(operation, schema),
            "answers": sorted(str(status) for status in operation.get("responses", {})),
            "tag": (operation.get("tags") or ["other"])[0],
        }
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    ]
    return render(request, "api_docs.html", {"operations": operations})


def _type_of(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[1]
    if options := schema.get("anyOf"):
        return " or ".join(dict.fromkeys(_type_of(option) for option in options))
    if schema.get("type") == "array":
        return f"list of {_type_of(schema.get('items', {}))}"
    return str(schema.get("format") or schema.get("type", "any"))


def _body_of(operation: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, Any]]:
    content = operation.get("requestBody", {}).get("content", {})
    for media, described in content.items():
        body = described.get("schema", {})
        if "$ref" in body:
            body = schema["components"]["schemas"][body["$ref"].rsplit("/", 1)[1]]
        required = set(body.get("required", []))
        return [
            {
                "name": name,
                "where": media,
                "required": name in required,
                "type": _type_of(item),
                "text": item.get("description", ""),
            }
            for name, item in body.get("properties", {}).items()
        ]
    return []
