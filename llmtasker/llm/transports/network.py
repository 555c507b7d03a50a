"""This machine's requirements for connections: proxies and certificates, read from the environment in one place."""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from llmtasker.errors import ConfigurationError, snippet

_PROXY_SCHEMES = frozenset({"http", "https", "socks5", "socks5h"})


def proxy_for(url: str) -> str | None:
    """Return the URL of the environment's proxy for a URL; None: connections are direct.

    Raises:
        ConfigurationError: the variable does not contain the URL of a proxy.
    """
    if sys.platform not in ("darwin", "win32") and not any(name.lower().endswith("_proxy") for name in os.environ):
        return None  # as in most processes; urllib.request loads the standard library's HTTP client
    from urllib.request import getproxies

    parts = urlsplit(url)
    proxies = getproxies()
    scheme = parts.scheme if proxies.get(parts.scheme) else "all"
    proxy = proxies.get(scheme)
    if not proxy or _is_excepted(parts.hostname or "", parts.port):
        return None
    variables = (f"{scheme}_proxy", f"{scheme}_proxy".upper())
    named = next((name for name in variables if os.environ.get(name)), "the system")
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    try:
        kind, host, _ = urlsplit(proxy).scheme.lower(), urlsplit(proxy).hostname, urlsplit(proxy).port
    except ValueError:
        kind, host = "", None
    if kind == "socks":
        kind, proxy = "socks5", proxy.replace("socks://", "socks5://", 1)
    if kind not in _PROXY_SCHEMES or not host:
        raise ConfigurationError(
            f"{named} is not the URL of a proxy that can be used for {parts.hostname}: give one such as "
            '"http://proxy.intern:3128", or name the host in NO_PROXY.'
        )
    if kind.startswith("socks"):
        _check_socks(named)
    return proxy


def _check_socks(variable: str) -> None:
    if find_spec("socksio") is None:
        raise ConfigurationError(
            f"{variable} names a SOCKS proxy, which needs socksio: pip install socksio. Or name the host in NO_PROXY."
        )


def _is_excepted(host: str, port: int | None) -> bool:
    """Return whether NO_PROXY names a host: as a name, a domain, an address, a network, or with a `*`."""
    from urllib.request import proxy_bypass

    if proxy_bypass(host if port is None else f"{host}:{port}") or proxy_bypass(host):
        return True
    names = re.split(r"[,\s]+", (os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or "").lower())
    forms = {host.lower(), f"{host.lower()}:{port}", f"[{host}]:{port}"}
    return any(
        name in forms or _is_in_network(host, name) or ("*" in name and any(fnmatchcase(form, name) for form in forms))
        for name in names
    )


def _is_in_network(host: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network.strip("[]"), strict=False)
    except ValueError:
        return False


def check_certificates(url: str) -> None:
    """Check that the environment's certificates for a URL can be read.

    Raises:
        ConfigurationError: a variable names a file without certificates, or a folder that does not exist.
    """
    if urlsplit(url).scheme != "https":
        return
    if (folder := os.environ.get("SSL_CERT_DIR")) and not Path(folder).is_dir():
        raise ConfigurationError(f"SSL_CERT_DIR names {snippet(folder, 100)!r}, which is not a folder.")
    if file := os.environ.get("SSL_CERT_FILE"):
        import ssl

        try:
            ssl.create_default_context(cafile=file)
        except OSError as error:
            what = "there is no such file" if isinstance(error, FileNotFoundError) else "it has no certificates"
            raise ConfigurationError(
                f"SSL_CERT_FILE names {snippet(file, 100)!r}, and {what}. Name a file of PEM certificates, or unset it."
            ) from None
