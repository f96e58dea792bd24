"""What a request is told that ends without an answer."""

from typing import NamedTuple

from model_runtime.protocol import ErrorKind, SequenceOutput


class Failure(NamedTuple):
    kind: ErrorKind
    message: str

    def of(self, request_id: str) -> SequenceOutput:
        return SequenceOutput(request_id, [], "error", self.message, self.kind)


FAILED = Failure("failure", "The request failed in the engine.")
NO_MEMORY = Failure("no_memory", "There is not enough memory for this request. Try again later.")
NOT_FINITE = Failure("not_finite", "The model produced a value that is not finite.")
NO_TOKEN_ALLOWED = Failure("refusal", "The request's own rules left no token to continue with.")
