"""Paths that are treated apart."""

PROBE_PATHS = frozenset({"/livez", "/readyz", "/health"})
OPEN_PATHS = PROBE_PATHS | {"/metrics"}  # need no key, and are not logged
PAGE_PATH, PAGE_FILES = "/", "/ui/"  # of the web page: need no key
LATER_PATHS = ("/v1/files", "/v1/batches")  # what is sent there waits for room by itself
