"""Where a server is: the URL's parts."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from ebgan_detect.errors import InvalidParameterError

__all__ = ["Address"]

SCHEMES = {"grpc": False, "grpcs": True, "http": False, "https": True}
"""Whether a scheme means TLS."""
FORM = (
    "url must be HOST:PORT for gRPC, or that with grpc://, grpcs://, http:// or https:// before it"
)


@dataclass(frozen=True)
class Address:
    """A server's address.

    Attributes
    ----------
    url : str
        As the user gave it.
    protocol : {'grpc', 'http'}
        What is spoken there.
    target : str
        ``HOST:PORT``, for HTTP perhaps with a path; or ``unix:PATH`` for gRPC.
    secure : bool
        Whether the connection is encrypted.
    is_local : bool
        Whether the server surely runs on this machine.
    """

    url: str
    protocol: str
    target: str
    secure: bool
    is_local: bool

    @classmethod
    def parse(cls, url: str) -> Address:
        """Take a URL apart.

        Parameters
        ----------
        url : str
            ``[grpc|grpcs|http|https://]HOST:PORT[/PATH]`` or ``unix:PATH``.

        Returns
        -------
        Address
            Its parts; gRPC where no scheme is given.

        Raises
        ------
        InvalidParameterError
            If the URL has another form.

        Examples
        --------
        >>> Address.parse("localhost:8001").protocol
        'grpc'
        >>> Address.parse("https://triton.example:443/v1").target
        'triton.example:443/v1'
        """
        if url.startswith("unix:"):
            return cls(url, "grpc", url, secure=False, is_local=True)
        try:
            parts = urlsplit(url if "://" in url else f"grpc://{url}")
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise InvalidParameterError(f"{FORM}, got {url!r}: {error}") from error
        path = parts.path.rstrip("/")
        if parts.scheme not in SCHEMES or not host or port is None or parts.query or parts.fragment:
            raise InvalidParameterError(f"{FORM}, got {url!r}")
        if "@" in parts.netloc:
            raise InvalidParameterError(
                "url must not hold a name or password; give headers={'authorization': ...}"
            )
        protocol = parts.scheme[:4]
        if path and protocol == "grpc":
            raise InvalidParameterError(f"url must have no path with gRPC, got {url!r}")
        return cls(
            url, protocol, parts.netloc + path, SCHEMES[parts.scheme], is_local=_is_loopback(host)
        )


def _is_loopback(host: str) -> bool:
    """Whether a host name or number means this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
