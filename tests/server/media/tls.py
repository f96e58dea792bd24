"""An authority of our own, and servers whose certificates are good, misnamed or too old."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme


class Authority:
    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self.file = folder / "authority.pem"
        self._authority.cert_pem.write_to_path(self.file)

    def contexts(self) -> dict[str, ssl.SSLContext]:
        """`tls`: good for good.example alone. `expired`: of expired.example, and too old."""
        yesterday = datetime.now(UTC) - timedelta(days=1)
        return {
            "tls": self._context(self._authority.issue_cert("good.example")),
            "expired": self._context(
                self._authority.issue_cert("expired.example", not_after=yesterday)
            ),
        }

    def _context(self, certificate: trustme.LeafCert) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        return context
