"""Paths that are treated apart."""

PROBE_PATHS = frozenset({"/livez", "/readyz", "/health"})
OPEN_PATHS = PROBE_PATHS | {"/metrics"}  # need no key, and are not logged
