"""Which addresses can be called at all, and which of the network are public."""

import ipaddress
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# A well-known prefix below which a NAT64 gateway reaches every IPv4 address (RFC 6052).
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_IPV4_COMPATIBLE = ipaddress.ip_network("::/96")


def is_public(address: Address) -> bool:
    """Whether `address` is reached by way of the internet, and so is every IPv4 address that it wraps."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        wrapped = [address.sixtofour, *(address.teredo or ())]
        if not all(is_public(inner) for inner in wrapped if inner is not None):
            return False
        # Deprecated both, and still global to Python: site-local addresses, and IPv4 ones written with zeros before.
        if address.is_site_local or address in _IPV4_COMPATIBLE:
            return False
    return address.is_global and not address.is_multicast


def fault_of_address(url: str) -> str | None:
    """Returns the rule that `url` breaks as an address of http or https; None when it can be called."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "is not an address"
    if parts.scheme not in ("http", "https") or not host or port == 0:
        return "must be an address of http or https"
    if any(ord(letter) <= 32 or ord(letter) == 127 for letter in url):
        return "must not contain white space or control characters"
    return None
