"""The kinds of values settings are made of: sizes, addresses, names. Parsed once, checked where they enter."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from dwd.base.errors import InvalidArgument
from dwd.base.units import parse_bytes

NAME_CHARS_MAX = 63

_HOST = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*"
)
_NAME = re.compile(rf"[a-z0-9](?:[a-z0-9._-]{{0,{NAME_CHARS_MAX - 1}}})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """`host:port`; IPv6 hosts stand in brackets: "[::1]:7400"."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_wildcard(self) -> bool:
        """Whether it stands for all addresses of this machine, so that nobody can be told to call it."""
        try:
            return ipaddress.ip_address(self.host).is_unspecified
        except ValueError:
            return False

    @property
    def is_loopback(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError, with what is wrong."""
        host, colon, port = text.strip().rpartition(":")
        if not colon or not host:
            raise ValueError("must be host:port")
        if not (port.isascii() and port.isdecimal() and int(port) <= 65_535):
            raise ValueError("the port must be a number from 0 to 65535")
        if host.startswith("[") and host.endswith("]"):
            host = str(ipaddress.IPv6Address(host[1:-1]))
        elif ":" in host:
            raise ValueError('an IPv6 address stands in brackets: "[::1]:7400"')
        elif _HOST.fullmatch(host) is None:
            raise ValueError("the host is neither a name nor an IP address")
        return cls(host=host, port=int(port))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(cls._validate)

    @classmethod
    def _validate(cls, value: object) -> Self:
        if isinstance(value, cls):
            return value
        if not isinstance(value, str):
            raise ValueError("must be a string like 127.0.0.1:7400")  # noqa: TRY004 - pydantic collects ValueError
        return cls.parse(value)


def _size(value: object) -> object:
    if isinstance(value, str):
        try:
            return parse_bytes(value)
        except InvalidArgument as error:
            raise ValueError(f"{error.message}, {error.hint}") from error
    return value


def _name(value: str) -> str:
    if _NAME.fullmatch(value) is None:
        raise ValueError(f"must be 1 to {NAME_CHARS_MAX} of a-z, 0-9, dot, dash and underscore, the first no mark")
    return value


Size = Annotated[int, BeforeValidator(_size)]
"""Bytes: 4096 or "64MiB"."""
Name = Annotated[str, AfterValidator(_name)]
"""A name that stands in metric labels, certificates and tables: lower case, short, no spaces."""
