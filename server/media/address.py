"""Which addresses the server may connect to: our own table, not `ip.is_global`.

Python 3.11 calls multicast, NAT64 and IPv4-compatible loopback addresses global.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

_NOT_PUBLIC_V4 = [
    ip_network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24",
        "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15",
        "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        "168.63.129.16/32",  # Azure's host agent
    )
]  # fmt: skip
_PUBLIC_V6 = ip_network("2000::/3")
_NOT_PUBLIC_V6 = [
    ip_network(text)
    for text in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
]


def parse_networks(texts: Iterable[str]) -> tuple[IPNetwork, ...]:
    """CIDR texts to networks. Raises ValueError for what is none."""
    return tuple(ip_network(text) for text in texts)


def is_allowed(address: str, allowed: Iterable[IPNetwork]) -> bool:
    """Public, or inside a network that the operator allowed."""
    ip = ip_address(address)
    return is_public(ip) or any(ip in network for network in allowed)


def is_public(ip: IPAddress) -> bool:
    if isinstance(ip, IPv6Address):
        if ip.scope_id:
            return False
        if ip.ipv4_mapped is None:
            return ip in _PUBLIC_V6 and not any(ip in network for network in _NOT_PUBLIC_V6)
        ip = ip.ipv4_mapped
    return not any(ip in network for network in _NOT_PUBLIC_V4)
