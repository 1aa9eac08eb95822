"""A command runs under groups of a policy; why something is allowed can be asked."""

import sys

from nono_py import AccessMode, CapabilitySet, explain, run

GROUPS = ["system_read_linux", "system_write_linux", "python_runtime", "registry_python"]

caps = CapabilitySet()
caps.allow_interpreter()  # this Python may be in an environment of its own
done = run(None, GROUPS, [sys.executable, "-c", "print('hello')"], caps=caps, timeout_secs=60)
print(done.exit_code, done.stdout.decode(), len(done.events), "exchanges")

print(explain(None, GROUPS, host="pypi.org"))
print(explain(None, GROUPS, host="example.com"))
print(explain(None, GROUPS, path="/etc/passwd", mode=AccessMode.WRITE))
