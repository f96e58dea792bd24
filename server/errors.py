"""What can go wrong with a request, as exceptions. One table of kinds, OpenAI's error shape.

Messages are written for the client: they name the field and say what to do, and never show
a path, an address, a traceback or the text of another library's exception.
"""

import random
from http import HTTPStatus

_RETRY_JITTER_S = 2  # so that the refused do not all come back at once


class ApiError(Exception):
    """An answer other than success. `param` is a path such as `messages[0].content[1]`."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    type = "server_error"
    code: str | None = None

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code if code is not None else type(self).code

    @property
    def headers(self) -> dict[str, str]:
        return {}


class InvalidRequestError(ApiError):
    """A field or the body is wrong."""

    status = HTTPStatus.BAD_REQUEST
    type = "invalid_request_error"
    code = "invalid_request"


class UnsupportedParameterError(InvalidRequestError):
    """A field that changes meaning and is not supported."""

    code = "unsupported_parameter"


class ContextLengthError(InvalidRequestError):
    """The prompt does not fit."""

    code = "context_length_exceeded"


class MediaError(InvalidRequestError):
    """Media that cannot be fetched, is too large, or cannot be decoded. `code` starts `media_`."""

    code = "media_invalid"


class AuthenticationError(ApiError):
    """The API key is missing or wrong."""

    status = HTTPStatus.UNAUTHORIZED
    type = "invalid_request_error"
    code = "invalid_api_key"

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": "Bearer"}


class NotFoundError(ApiError):
    """No such model or route."""

    status = HTTPStatus.NOT_FOUND
    type = "invalid_request_error"
    code = "unknown_url"


class MethodNotAllowedError(ApiError):
    """The route exists, but not for this method."""

    status = HTTPStatus.METHOD_NOT_ALLOWED
    type = "invalid_request_error"
    code = "method_not_allowed"


class PayloadTooLargeError(ApiError):
    """The body exceeds the limit."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    type = "invalid_request_error"
    code = "request_too_large"


class HeadersTooLargeError(ApiError):
    """The request line and headers exceed a limit."""

    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    type = "invalid_request_error"
    code = "headers_too_large"


class ExpectationError(ApiError):
    """An `Expect` header that asks for something else than to go on."""

    status = HTTPStatus.EXPECTATION_FAILED
    type = "invalid_request_error"
    code = "invalid_request"


class UnsupportedMediaTypeError(ApiError):
    """The body is not plain JSON."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    type = "invalid_request_error"
    code = "unsupported_media_type"


class UnavailableError(ApiError):
    """Overloaded, loading, or the worker is away: the client may try again."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "server_not_ready"
    retry_after_s = 1

    @property
    def headers(self) -> dict[str, str]:
        return _come_back_after(self.retry_after_s)


class OverloadedError(UnavailableError):
    """Too many requests at once."""

    code = "server_overloaded"


class DrainingError(UnavailableError):
    """The server is about to end: another one, or a later one, can answer."""

    code = "server_draining"


class RateLimitError(ApiError):
    """A key has used up what it may; others may go on."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    type = "rate_limit_error"
    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> dict[str, str]:
        return _come_back_after(self.retry_after_s)


def _come_back_after(seconds: int) -> dict[str, str]:
    return {"Retry-After": str(seconds + random.randint(0, _RETRY_JITTER_S))}


def internal_error() -> ApiError:
    """For whatever nobody foresaw."""
    return ApiError("The server failed. This is a bug; it has been logged.", code="internal_error")


class EngineError(ApiError):
    """The request failed in the engine, through no fault of the client."""

    code = "engine_error"


class EngineCrashedError(EngineError):
    """The worker died while it worked on the request."""

    code = "engine_crashed"


class NumericalError(EngineError):
    """The model computed a value that is not finite."""

    code = "numerical_error"


class QuarantinedError(InvalidRequestError):
    """The request, or media in it, made workers die. A client error, for clients send what is the
    server's fault again."""

    code = "request_quarantined"


class DeadlineExceededError(ApiError):
    """The request was not answered in the time it had."""

    status = HTTPStatus.GATEWAY_TIMEOUT
    code = "deadline_exceeded"


def too_late() -> DeadlineExceededError:
    return DeadlineExceededError(
        "The time that the request had is over. Ask for fewer tokens, or allow it more time."
    )
