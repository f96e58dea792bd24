"""Lists a page at a time, as OpenAI's clients walk them."""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request

from server.errors import InvalidRequestError


class ListQuery(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    after: str | None = None
    limit: int = Field(20, ge=1, le=100)


Q = TypeVar("Q", bound=ListQuery)


def read_query(kind: type[Q], http: Request) -> Q:
    """Raises InvalidRequestError."""
    try:
        return kind.model_validate(dict(http.query_params))
    except ValidationError as error:
        (name, *_) = error.errors()[0]["loc"]
        raise InvalidRequestError(
            "This query parameter has no value that can be used.",
            param=str(name),
            code="invalid_value",
        ) from None


def page(cards: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    """`cards`: one more than the limit, if there are more."""
    shown = cards[:limit]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(cards) > limit,
    }
