"""Which proxy a request goes through: the one of the site file, or of the environment if the site says so."""

from __future__ import annotations

import ipaddress
import urllib.request
from collections.abc import Iterable
from urllib.parse import quote, urlsplit, urlunsplit

from fhir_adapter.connectors.secrets import read_secret
from fhir_adapter.errors import SiteFileError
from fhir_adapter.site import Proxy, origin

__all__ = ["Proxies", "is_loopback"]


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _matches(host: str, port: int | None, rule: str) -> bool:
    """Whether a rule of `no_proxy` covers a host: `*`, a host, `host:port`, a domain, a network."""
    rule = rule.strip().lower()
    if rule == "*":
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(rule, strict=False)
    except ValueError:
        pass  # a name, or the rule is one
    name, colon, wanted = rule.rpartition(":")
    if colon and wanted.isdecimal():
        if port != int(wanted):
            return False
        rule = name
    rule = rule.removeprefix("*").removeprefix(".")
    return bool(rule) and (host == rule or host.endswith(f".{rule}"))


class Proxies:
    """The proxies of a site.

    Args:
        settings: `proxy` of the site file.

    Raises:
        SiteFileError: the proxy's credential is missing.
    """

    def __init__(self, settings: Proxy) -> None:
        self._rules: tuple[str, ...] = tuple(settings.no_proxy)
        self._by_scheme: dict[str, str] = {}
        if settings.from_environment:
            found = urllib.request.getproxies_environment()
            self._rules = tuple(filter(None, found.get("no", "").split(",")))
            self._by_scheme = {
                scheme: self._usable(found[key])
                for scheme in ("http", "https")
                for key in (scheme, "all")
                if found.get(key) and (key == scheme or not found.get(scheme))
            }
        elif settings.url is not None:
            url = settings.url
            if settings.user_env is not None:
                user = read_secret(settings.user_env, None, "user name at the proxy")
                password = read_secret(settings.password_env, settings.password_file, "password at the proxy")
                parts = urlsplit(url)
                pair = f"{quote(user, safe='')}:{quote(password, safe='')}"
                url = urlunsplit((parts.scheme, f"{pair}@{parts.netloc}", parts.path, "", ""))
            self._by_scheme = {"http": url, "https": url}

    @staticmethod
    def _usable(url: str) -> str:
        whole = url if "://" in url else f"http://{url}"
        try:
            origin(whole)
        except ValueError as error:
            # Not the value: it may hold a password.
            raise SiteFileError(
                "a proxy of the environment is no http or https URL", where="proxy"
            ) from error
        return whole

    def for_url(self, url: str) -> dict[str, str]:
        """The proxy of a URL as requests takes it: empty if there is none."""
        parts = urlsplit(url)
        host, scheme = (parts.hostname or "").lower(), parts.scheme.lower()
        if scheme not in self._by_scheme or self._excepted(host, parts.port, self._rules):
            return {}
        return {scheme: self._by_scheme[scheme]}

    @staticmethod
    def _excepted(host: str, port: int | None, rules: Iterable[str]) -> bool:
        return any(_matches(host, port, rule) for rule in rules)

    def __repr__(self) -> str:
        return f"Proxies({', '.join(sorted(self._by_scheme))})"
