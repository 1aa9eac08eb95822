"""`CapabilitySet`, `AccessMode`, `apply` and support information."""

import copy
import errno
import pickle
import sys
import threading
from enum import Enum
from pathlib import Path
from typing import Any

import nono_py
import pytest
from nono_py import (
    AccessMode,
    CapabilitySet,
    InjectMode,
    ProxyConfig,
    is_supported,
    start_proxy,
    support_info,
)


@pytest.mark.parametrize(
    ("member", "representation", "text", "number"),
    [
        (AccessMode.READ, "AccessMode.READ", "read", 0),
        (AccessMode.WRITE, "AccessMode.WRITE", "write", 1),
        (AccessMode.READ_WRITE, "AccessMode.READ_WRITE", "read+write", 2),
        (InjectMode.HEADER, "InjectMode.HEADER", "header", 0),
        (InjectMode.URL_PATH, "InjectMode.URL_PATH", "url_path", 1),
        (InjectMode.QUERY_PARAM, "InjectMode.QUERY_PARAM", "query_param", 2),
        (InjectMode.BASIC_AUTH, "InjectMode.BASIC_AUTH", "basic_auth", 3),
    ],
)
def test_enumerations_are_real(member: Any, representation: str, text: str, number: int) -> None:
    assert (repr(member), str(member), int(member)) == (representation, text, number)
    assert member != number
    assert pickle.loads(pickle.dumps(member)) is member
    assert copy.deepcopy(member) is member
    assert isinstance(member, Enum)
    assert type(member)(number) is member


def test_classes_say_where_they_are_from() -> None:
    public = [getattr(nono_py, name) for name in nono_py.__all__]
    classes = [item for item in public if isinstance(item, type)]
    assert len(classes) >= 21
    assert {item.__module__ for item in classes} == {"nono_py"}


def test_grants_are_listed_as_given(tmp_path: Path) -> None:
    target = tmp_path.resolve() / "target"
    target.mkdir()
    (target / "file").touch()
    (tmp_path / "link").symlink_to(target)
    caps = CapabilitySet()
    caps.allow_path(tmp_path / "link", AccessMode.READ)
    caps.allow_file(str(target / "file"), AccessMode.READ_WRITE)
    directory, file = caps.fs_capabilities()
    assert (directory.original, directory.resolved) == (str(tmp_path / "link"), str(target))
    assert (directory.access, directory.is_file) == (AccessMode.READ, False)
    assert (file.access, file.is_file) == (AccessMode.READ_WRITE, True)
    assert repr(directory) == f"FsCapability(path='{target}', access=read, is_file=false)"
    assert str(file) == f"{target / 'file'} (read+write)"
    assert repr(caps) == str(caps) == "CapabilitySet(fs=2, network=allowed)"
    assert caps.summary() == (
        f"Filesystem:\n  {target} [read] (dir)\n  {target / 'file'} [read+write] (file)\n"
        "Network:\n  outbound: allowed"
    )


def test_a_new_set_grants_no_path() -> None:
    assert CapabilitySet().fs_capabilities() == []
    assert "(no capabilities granted)" in CapabilitySet().summary()


def test_network_modes() -> None:
    caps = CapabilitySet()
    assert not caps.is_network_blocked
    caps.block_network()
    assert caps.is_network_blocked
    assert repr(caps) == "CapabilitySet(fs=0, network=blocked)"
    with start_proxy(ProxyConfig()) as proxy:
        caps.proxy_only(proxy)
        assert caps.is_network_blocked
        assert str(proxy.port) in repr(caps)


def test_a_missing_path_has_its_number_and_name(tmp_path: Path) -> None:
    path = tmp_path / "missing"
    for allow in (CapabilitySet().allow_path, CapabilitySet().allow_file):
        with pytest.raises(FileNotFoundError) as caught:
            allow(path, AccessMode.READ)
        assert (caught.value.errno, caught.value.filename) == (errno.ENOENT, str(path))


def test_directories_and_files_are_not_confused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ValueError, match=f"expected a directory.*{file}"):
        CapabilitySet().allow_path(file, AccessMode.READ)
    with pytest.raises(ValueError, match=f"expected a file.*{tmp_path}"):
        CapabilitySet().allow_file(tmp_path, AccessMode.READ)


def test_a_mode_is_a_mode() -> None:
    with pytest.raises(TypeError, match="'str' object is not an instance of 'AccessMode'"):
        CapabilitySet().allow_path("/usr", "read")  # type: ignore[arg-type]


def test_a_set_can_be_shared_between_threads() -> None:
    caps = CapabilitySet()
    barrier = threading.Barrier(8)

    def grant() -> None:
        barrier.wait()
        for _ in range(50):
            caps.allow_path("/usr", AccessMode.READ)
            caps.fs_capabilities()

    threads = [threading.Thread(target=grant) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(caps.fs_capabilities()) == 400


def test_support_is_explained() -> None:
    info = support_info()
    assert info.is_supported == is_supported()
    assert info.platform == sys.platform
    assert info.details
    supported = str(info.is_supported).lower()
    assert repr(info) == f"SupportInfo(supported={supported}, platform='{info.platform}')"
