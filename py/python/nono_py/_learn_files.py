"""What a learned command needs of files: groups that are there, and grants for the rest."""

import contextlib
import re
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePath

from nono_py._enums import AccessMode
from nono_py._interpreter import is_shared, shared
from nono_py._learn_needs import (
    Covers,
    Findings,
    Needs,
    Places,
    home_directory,
    outermost,
    short,
    within,
)
from nono_py._nono_py import CapabilitySet, Policy, ResolvedPolicy, validate_deny_overlaps

#: Of how many siblings one grant of their directory is made.
MANY = 3
#: What files with keys in them are called.
SECRET_NAMES = (
    ".env",
    ".env.*",
    ".netrc",
    ".npmrc",
    ".pypirc",
    ".git-credentials",
    "id_rsa",
    "id_ecdsa",
    "id_ed25519",
    "*.kdbx",
    "*.p12",
    "*.pfx",
    "*.jks",
)
#: What may be certificates alone, or have a key beside them.
KEY_SUFFIXES = (".pem", ".key")
#: What nearly every program needs; chosen before all others.
_BASE = ("system_read_linux", "system_write_linux")
#: Chosen only where nothing narrower does: its grant is of other programs too.
_LAST = ("proc_linux",)


class Files:
    """What is made of what was done with files."""

    def __init__(
        self, policy: Policy, groups: list[str], findings: Findings, temporary: str, cwd: Path
    ) -> None:
        self._policy = policy
        self._given = groups
        self._findings = findings
        self._variables = {"TMPDIR": temporary}
        self._required = policy.required_groups()
        self._places = Places()
        held = self._resolved([*self._required, *groups])
        self._denied = [str(path) for path in held.deny_paths]
        self._shared = shared()
        own = (home_directory(), cwd, PurePath(temporary))
        #: The directories that are the user's own.
        self._own = [str(place) for place in own if place is not None]
        #: Secrets that no grant may bring.
        self._kept: set[str] = set()
        #: The groups that were chosen besides those that were given.
        self.chosen: list[str] = []
        #: What is granted besides, as a policy has it.
        self.grants: dict[str, list[str]] = {}
        #: Secrets that have to be denied in what is granted.
        self.denied: list[str] = []

    def study(self, acts: Iterable[tuple[str, "str | None", object]]) -> None:
        """Choose groups for what was done with files, and grants for the rest."""
        needs = Needs()
        sets = {"read": needs.reads, "write": needs.writes, "make": needs.makes}
        for name, path, _ in acts:
            if path is None or name not in sets:
                continue
            if self._is_secret(path):
                self._findings.secrets.add(f"{name} {short(path)}")
                self._kept.add(path)
            else:
                sets[name].add(path)
        needs = self._choose_groups(needs)
        self._keep_out(self._grant(needs))

    def _is_denied(self, path: str) -> bool:
        """Whether a path is denied by a group that holds."""
        return any(within(path, denied) for denied in self._denied)

    def _is_secret(self, path: str) -> bool:
        """Whether a path is denied by a group that holds, or a key by its name, content or mode."""
        name = path.rpartition("/")[2]
        if self._is_denied(path) or any(fnmatchcase(name, pattern) for pattern in SECRET_NAMES):
            return True
        if path.startswith(("/proc/", "/dev/")) or not stat.S_ISREG(mode := self._mode(path)):
            return False
        if name.endswith(KEY_SUFFIXES):
            with contextlib.suppress(OSError), Path(path).open("rb") as file:
                return b"PRIVATE KEY-----" in file.read(2**20)
        # Outside of what is the user's own: what is not everybody's to read.
        is_own = any(within(path, place) for place in self._own)
        return not is_own and not mode & 0o004

    def _mode(self, path: str) -> int:
        """Return a file's kind and mode; zero, and a note, if it cannot be looked at any more."""
        try:
            return Path(path).stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return 0
        except OSError as error:
            self._findings.note(f"{short(path)} cannot be looked at any more: {error.strerror}")
            return 0

    def _covers(self, names: Sequence[str]) -> Covers:
        caps = CapabilitySet()
        self._policy.resolve_groups(names, caps, variables=self._variables)
        return Covers(caps, self._places)

    def _resolved(self, names: Sequence[str]) -> ResolvedPolicy:
        """Return what groups deny; raise RuntimeError if they grant it too."""
        caps = CapabilitySet()
        resolved = self._policy.resolve_groups(names, caps, variables=self._variables)
        validate_deny_overlaps(resolved.deny_paths, caps)
        return resolved

    def _may_choose(self, name: str) -> bool:
        """Whether a group goes with what holds anyway, and denies nothing besides.

        What is learned would have to be kept out of that too, the groups that are chosen later
        included.
        """
        try:
            resolved = self._resolved([*self._required, *self._given, name])
        except RuntimeError:
            return False
        return all(self._is_denied(path) for path in resolved.deny_paths)

    def _choose_groups(self, needs: Needs) -> Needs:
        """Choose groups that cover as much as there are groups for; return what is left."""
        needs = needs.without(self._covers(self._given))
        for name in _BASE:
            needs = self._choose(name, needs)
        passed = {*self._given, *self._required, *_BASE, *_LAST}
        others = [name for name in self._policy.group_names() if name not in passed]
        sets = {name: covers for name in others if len(covers := self._covers([name]))}
        self._choose_narrowest(needs, sets)
        needs = needs.without(self._covers(self.chosen))
        for name in _LAST:
            before, needs = needs, self._choose(name, needs)
            if needs != before:
                self._findings.note(f"{name} was chosen: {self._policy.group_description(name)}")
        return needs

    def _choose(self, name: str, needs: Needs) -> Needs:
        """Choose a group if it covers anything; return what is left."""
        left = needs.without(self._covers([name]))
        if left == needs or not self._may_choose(name):
            return needs
        self.chosen.append(name)
        return left

    def _choose_narrowest(self, needs: Needs, sets: dict[str, Covers]) -> None:
        """Choose for each use the group whose grant is the narrowest, and of those the busiest."""
        uses = {
            pair: [name for name, covers in sets.items() if covers(*pair)] for pair in needs.pairs()
        }
        used = {name for names in uses.values() for name in names}
        passed = {name for name in used if not self._may_choose(name)}
        uses = {
            pair: [name for name in names if name not in passed] for pair, names in uses.items()
        }
        busy = Counter(name for names in uses.values() for name in names)
        wanted: Counter[str] = Counter()
        for pair, names in uses.items():
            if names:
                best = max(names, key=lambda name: (sets[name].depth(*pair), busy[name], name))
                wanted[best] += 1
        kept = set(wanted)
        for name, _ in reversed(wanted.most_common()):
            rest = kept - {name}
            if all(rest.intersection(names) for names in uses.values() if kept & set(names)):
                kept = rest
        self.chosen += sorted(kept)

    def _grant(self, needs: Needs) -> list[tuple[str, AccessMode]]:
        """Grant what no group covers: files, and directories where many were used."""
        made = {str(PurePath(path).parent) for path in needs.makes}
        for path in sorted(made):
            if not self._may_grant(PurePath(path), writes=True):
                self._findings.note(f"wrote in {short(path)}: too much else is there to grant it")
        writable = {path for path in made if self._may_grant(PurePath(path), writes=True)}
        # What was made, read and removed is read where it was made.
        reads = {path for path in needs.reads if path in needs.makes or self._mode(path)}
        for path in sorted(reads):
            if self._is_directory(path) and not self._may_grant(PurePath(path), writes=False):
                self._findings.note(f"listed {short(path)}: too much else is there to grant it")
                reads.discard(path)
        writes = self._gathered(needs.writes | writable, writes=True)
        gathered = self._gathered(reads, writes=False)
        both = {path for path in writes if any(within(read, path) for read in reads)}
        read_only = {path for path in gathered if not any(within(path, own) for own in both)}
        read_only = {path for path in read_only if self._mode(path)}
        granted = []
        for name, mode, paths in (
            ("read", AccessMode.READ, read_only),
            ("write", AccessMode.WRITE, writes - both),
            ("readwrite", AccessMode.READ_WRITE, both),
        ):
            if written := [path for path in sorted(paths) if self._can_be_written(path)]:
                self.grants[name] = sorted(self._written(path) for path in written)
                granted += [(path, mode) for path in written]
        return granted

    def _can_be_written(self, path: str) -> bool:
        """Whether a policy can have a path in it; if not, it is noted."""
        # Names are bytes, and a policy is text in which `$` and `*` mean something else.
        if not re.search(r"[*$\ud800-\udfff]", short(path)):
            return True
        self._findings.note(
            f"{path!r} cannot be written in a policy: rename it, or grant what is around it"
        )
        return False

    def _written(self, path: str) -> str:
        """Return a path as a policy has it."""
        return short(path) + ("/" if self._is_directory(path) else "")

    def _is_directory(self, path: str) -> bool:
        return stat.S_ISDIR(self._mode(path))

    def _keep_out(self, granted: list[tuple[str, AccessMode]]) -> None:
        """Deny the secrets that grants to read would bring; note what cannot be denied."""
        caps = CapabilitySet()
        self._policy.resolve_groups([*self._given, *self.chosen], caps, variables=self._variables)
        granted = granted + [(grant.resolved, grant.access) for grant in caps.fs_capabilities()]
        for secret in sorted(path for path in self._kept if not self._is_denied(path)):
            reaching = [(path, mode) for path, mode in granted if within(secret, path)]
            # Of a grant to write nothing can be kept out, nor what is granted by itself.
            is_needed = any(within(path, secret) for path, _ in granted)
            is_whole = is_needed or (bool(reaching) and not self._can_be_written(secret))
            whole = [path for path, mode in reaching if is_whole or mode != AccessMode.READ]
            for path in dict.fromkeys(whole):
                self._findings.note(f"{short(secret)} is granted with {short(path)}: move it away")
            if reaching and not whole:
                self.denied.append(short(secret))

    def _gathered(self, paths: set[str], *, writes: bool) -> set[str]:
        """Put a directory in the place of many of its entries, as long as there are such."""
        while True:
            paths = outermost(paths)
            entries = Counter(path.rpartition("/")[0] or "/" for path in paths)
            parents = {
                parent
                for parent, count in entries.items()
                if count >= MANY and self._may_grant(PurePath(parent), writes=writes)
            }
            if not parents:
                return paths
            paths |= parents

    def _may_grant(self, directory: PurePath, *, writes: bool) -> bool:
        """Whether a directory is a program's own, and may be granted whole."""
        if is_shared(Path(directory), self._shared):
            return False
        # Nothing denied can be kept out of a grant to write.
        return not (writes and any(within(denied, str(directory)) for denied in self._denied))
