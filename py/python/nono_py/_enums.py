"""The enumerations of the package, as `enum.Enum`, so that they iterate and pickle like one."""

from enum import Enum


class _Mode(Enum):
    """An enumeration whose text is its lower-case name."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}.{self.name}"

    def __str__(self) -> str:
        return self.name.lower()

    def __int__(self) -> int:
        return int(self.value)


class AccessMode(_Mode):
    """What may be done with a path."""

    READ = 0
    WRITE = 1
    READ_WRITE = 2

    def __str__(self) -> str:
        return self.name.lower().replace("_", "+")


class InjectMode(_Mode):
    """Where a route puts its credential."""

    HEADER = 0
    URL_PATH = 1
    QUERY_PARAM = 2
    BASIC_AUTH = 3


# Where they are found by users, and by `pickle`.
for _class in (AccessMode, InjectMode):
    _class.__module__ = "nono_py"
del _class
