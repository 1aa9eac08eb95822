#!/usr/bin/env python3
"""Runs tests of the sandbox on other kernels than this machine's, in virtual machines without
hardware support: `make check-kernels`. Kernels are Debian's, of several releases; they and the
machine's root directory lie in target/kernels. Needs qemu, a static busybox, cpio and apt.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
OUT = ROOT / "target" / "kernels"
# Landlock ABI 2 and no limit on the network; 6, the first that keeps signals within a sandbox;
# and the newest that there is.
RELEASES = ["bookworm", "bookworm-backports", "trixie-backports"]
META = "linux-image-cloud-amd64"
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
MIRROR = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")
# What tests run, besides what a shell has built in.
PROGRAMS = """sh bash cat cp chmod dd echo env false head id ip kill ln ls mkdir mkfifo mknod mount
    mv nice ps python3 readlink rm rmdir sed seq setpriv setsid sleep sort stat stty tail tee test
    timeout touch tr true umount uname unshare wc yes"""
PATH = "/usr/bin:/bin:/usr/sbin:/sbin"
# Without two features that this emulation gets wrong, which later kernels use.
MACHINE = """qemu-system-x86_64 -accel tcg,thread=multi -cpu max,la57=off,cx16=off -smp 2 -m 3G
    -nodefaults -nographic -no-reboot -serial stdio"""
COMMAND_LINE = "console=ttyS0 quiet loglevel=2 panic=-1 mitigations=off"
FILES = ["/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/ld.so.cache"]
SECONDS = 900


def main() -> None:
    missing = [name for name in ("qemu-system-x86_64", "busybox", "cpio") if not shutil.which(name)]
    if missing:
        sys.exit(f"not installed: {', '.join(missing)} (qemu-system-x86, busybox-static, cpio)")
    plan = Path(__file__).with_name("plan").read_text()
    # So that one part can be repeated: a word of a line, and a word of a release.
    only, release = [*sys.argv[1:], "", ""][:2]
    lines = [line for line in plan.splitlines() if line and line[0] != "#" and only in line]
    image = build(lines)
    failed = []
    for name in RELEASES:
        if release in name:
            kernel = fetch(name)
            failed += [f"{name}: {line}" for line in boot(name, kernel, image)]
    sys.exit("\n".join(["failed:", *failed]) if failed else 0)


def fetch(release: str) -> Path:
    """The kernel of a release, by apt with lists of its own: nothing is installed."""
    folder = OUT / release
    kernel = folder / "vmlinuz"
    if kernel.exists():
        return kernel
    (folder / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (folder / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    sources = folder / "sources.list"
    sources.write_text(f"deb [signed-by={KEYS}] {MIRROR} {release} main\n")
    places = {
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "/nonexistent",
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder,
    }
    options = [word for name, value in places.items() for word in ("-o", f"{name}={value}")]

    def depends(package: str) -> list[str]:
        lines = output(["apt-cache", *options, "depends", package])
        return re.findall(r"Depends: (linux-(?:image|binary)-\d\S*)", lines)

    subprocess.run(["apt-get", *options, "-qq", "update"], check=True)
    image = depends(META)[0]
    for package in [image, *depends(image)]:
        subprocess.run(["apt-get", *options, "-qq", "download", package], cwd=folder, check=True)
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, folder / "root"], check=True)
    next((folder / "root").rglob("vmlinuz*")).rename(kernel)
    shutil.rmtree(folder / "root")
    return kernel


def build(lines: list[str]) -> Path:
    """A root directory with the tests that the plan names, and what they need, in one file."""
    root = OUT / "root"
    shutil.rmtree(root, ignore_errors=True)
    for folder in ("proc", "sys", "dev", "tmp", "run", "root", "usr/bin", "usr/lib", "usr/lib64"):
        (root / folder).mkdir(parents=True)
    for name in ("bin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    tests = compile_tests(sorted({line.split()[2] for line in lines}))
    programs = [found for name in PROGRAMS.split() if (found := shutil.which(name, path=PATH))]
    for program in [*programs, *tests.values(), ROOT / "target" / "debug" / "probe"]:
        put(root, Path(program))
    shutil.copy(shutil.which("busybox"), root / "usr/bin/busybox")
    for file in FILES:
        copy(root, Path(file))
    init = Path(__file__).with_name("init").read_text()
    steps = []
    for since, user, test, *options in map(str.split, lines):
        steps.append(" ".join(["step", since, user, str(tests[test]), *options]))
    (root / "init").write_text(init.replace("@STEPS@", "\n".join(steps)))
    (root / "init").chmod(0o755)
    image = OUT / "root.cpio"
    with image.open("wb") as file:
        names = subprocess.Popen(["find", "."], cwd=root, stdout=subprocess.PIPE)
        pack = ["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0"]
        subprocess.run(pack, cwd=root, stdin=names.stdout, stdout=file, check=True)
    return image


def compile_tests(names: list[str]) -> dict[str, Path]:
    command = ["cargo", "test", "--no-run", "--quiet", "-p", "nono-tests"]
    command += ["--message-format", "json"]
    command += [word for name in names for word in ("--test", name)]
    messages = map(json.loads, output(command).splitlines())
    return {
        message["target"]["name"]: Path(message["executable"])
        for message in messages
        if message.get("executable") and message["target"]["name"] in names
    }


def put(root: Path, program: Path) -> None:
    """Copies a program to the place that it has here, with its libraries."""
    copy(root, program)
    linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    for library in re.findall(r"(/\S+) \(0x", linked):
        copy(root, Path(library))


def copy(root: Path, file: Path) -> None:
    # Directories are named as they are here without links.
    place = root / str(file.parent.resolve() / file.name).lstrip("/")
    if not place.exists() and file.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
        # Symbols are most of a test, and memory is where all of it will lie.
        subprocess.run(["strip", "--strip-debug", place], capture_output=True, check=False)


def boot(release: str, kernel: Path, image: Path) -> list[str]:
    """Runs the plan in a machine, and gives the lines that failed."""
    command = [*MACHINE.split(), "-kernel", str(kernel), "-initrd", str(image)]
    command += ["-append", COMMAND_LINE]
    log = OUT / f"{release}.log"
    with log.open("wb") as file:
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=file, timeout=SECONDS, check=False)
    said = log.read_text(errors="replace").replace("\r", "")
    steps = re.findall(r"^STEP (.*): (\d+) (test result: .*)?$", said, re.MULTILINE)
    for step, code, result in steps:
        print(f"{release}: {step}: {result if result else 'exit code ' + code}")
    if "PLAN DONE" not in said:
        return [f"the machine did not get through; see {log}"]
    return [f"{step}; see {log}" for step, code, _ in steps if code != "0"]


def output(command: list[str]) -> str:
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


if __name__ == "__main__":
    main()
