"""What a package of this name shows of itself, as JSON: run by `test_conformance.py` with ours.

`reference.json` holds what the same program has observed of PyPI's nono-py 0.16.0, in an
environment of its own:

    python -m venv other && other/bin/pip install nono-py==0.16.0
    other/bin/python observe.py > reference.json
"""

import builtins
import inspect
import json
import os
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nono_py
from audited import AUDIT, audited
from nono_py import audit

#: What is evaluated, by the name that it has in the table. `tmp` is a new directory with `d/` and
#: `f` in it and a link `l` to `d`; `caps` is a new set, `READ` and so on are the modes.
EXPRESSIONS = {
    # Enumerations
    "access.repr": "[repr(m) for m in (READ, WRITE, RW)]",
    "access.str": "[str(m) for m in (READ, WRITE, RW)]",
    "access.int": "[int(m) for m in (READ, WRITE, RW)]",
    "access.is_no_int": "READ == 0",
    "access.eq_hash": "READ == AccessMode.READ and len({READ, AccessMode.READ, WRITE}) == 2",
    "access.iterates": "len(list(AccessMode))",
    "access.value": "READ.value",
    "inject.repr": "[repr(getattr(InjectMode, n)) for n in INJECT]",
    "inject.str": "[str(getattr(InjectMode, n)) for n in INJECT]",
    "inject.int": "[int(getattr(InjectMode, n)) for n in INJECT]",
    # Traits of classes
    "class.module": "CapabilitySet.__module__",
    "class.subclass": "type('Mine', (CapabilitySet,), {})",
    "class.weakref": "weakref.ref(caps) is not None",
    "class.copy": "copy.copy(caps) is not None",
    "class.pickle": "pickle.loads(pickle.dumps(caps)) is not None",
    "class.readonly": "setattr(caps, 'is_network_blocked', True)",
    "class.no_dict": "setattr(caps, 'anything', 1)",
    "class.no_constructor": "[cannot(c) for c in (Policy, ResolvedPolicy, ExecResult, "
    "FsCapability, SupportInfo, DetectedAbi, SandboxState, ProxyHandle, CapabilitySource)]",
    "class.equality": "CapabilitySet() == CapabilitySet()",
    # Sources
    "source.str": "[str(s) for s in SOURCES]",
    "source.repr": "[repr(s) for s in SOURCES]",
    "source.equality": "CapabilitySource.user() == CapabilitySource.user()",
    # Grants
    "grant.fields": "[grant.original, grant.resolved, str(grant.access), grant.is_file, "
    "str(grant.source)]",
    "grant.repr": "repr(grant)",
    "grant.str": "str(grant)",
    "caps.keywords": "caps.allow_path(path=tmp, mode=READ)",
    "caps.returns": "[caps.allow_path(tmp, READ), caps.block_network(), caps.deduplicate(), "
    "caps.allow_localhost_port(80), caps.allow_tcp_connect_port(443), caps.allow_bind_port(8080)]",
    "caps.relative": "chdir(tmp) or caps.allow_path('d', READ) or resolved(caps)",
    "caps.link": "caps.allow_path(tmp + '/l', READ) or "
    "[(g.original, g.resolved) for g in caps.fs_capabilities()]",
    "caps.duplicates_kept": "caps.allow_path(tmp, READ) or caps.allow_path(tmp, READ) or "
    "len(caps.fs_capabilities())",
    "caps.devices": "caps.allow_file('/dev/null', RW) or str(caps.fs_capabilities()[0])",
    "caps.no_home": "caps.allow_path('~', READ)",
    "caps.empty_path": "caps.allow_path('', READ)",
    "caps.missing": "caps.allow_path(tmp + '/missing', READ)",
    "caps.missing_file": "caps.allow_file(tmp + '/missing', READ)",
    "caps.file_as_directory": "caps.allow_path(tmp + '/f', READ)",
    "caps.directory_as_file": "caps.allow_file(tmp, READ)",
    "caps.through_file": "caps.allow_path(tmp + '/f/x', READ)",
    "caps.nul": "caps.allow_path('a\\0b', READ)",
    "caps.long_name": "caps.allow_path('/' + 'a' * 300, READ)",
    "caps.pathlike": "caps.allow_path(Path(tmp), READ)",
    "caps.bytes": "caps.allow_path(tmp.encode(), READ)",
    "caps.no_mode": "caps.allow_path(tmp, 'read')",
    "caps.number_as_mode": "caps.allow_path(tmp, 0)",
    "caps.no_proxy": "caps.proxy_only(None)",
    "caps.port_too_large": "caps.allow_bind_port(65536)",
    "caps.port_negative": "caps.allow_bind_port(-1)",
    "caps.port_text": "caps.allow_bind_port('80')",
    "caps.port_zero": "caps.allow_localhost_port(0)",
    "caps.rule": "caps.platform_rule('(allow file-read* (subpath \"/opt\"))')",
    "caps.rule_no_parenthesis": "caps.platform_rule('allow')",
    "caps.rule_unbalanced": "caps.platform_rule('(allow')",
    "caps.rule_of_all": "caps.platform_rule('(allow file-read* (subpath \"/\"))')",
    "caps.deduplicate": "caps.allow_path(tmp, READ) or caps.allow_path(tmp, WRITE) or "
    "caps.deduplicate() or [str(g) for g in caps.fs_capabilities()]",
    "caps.covered": "caps.allow_path(tmp, READ) or "
    "[caps.path_covered(p) for p in (tmp, tmp + '/d', '/etc')]",
    "caps.covered_lexically": "caps.allow_path(tmp, READ) or caps.path_covered(tmp + '/../../etc')",
    "caps.covered_by_file": "caps.allow_file(tmp + '/f', READ) or caps.path_covered(tmp + '/f')",
    "caps.blocked": "[caps.is_network_blocked, caps.block_network(), caps.is_network_blocked]",
    "caps.repr": "[repr(caps), str(caps), caps.block_network(), repr(caps)]",
    "caps.summary_empty": "caps.summary()",
    "caps.summary": "[caps.allow_path(tmp, READ), caps.allow_file(tmp + '/f', RW), "
    "caps.block_network(), caps.summary()][-1]",
    "caps.summary_ports": "[caps.allow_tcp_connect_port(443), caps.allow_bind_port(8080), "
    "caps.summary()][-1]",
    # Questions
    "query.granted": "[caps.allow_path(tmp, READ), QueryContext(caps).query_path(tmp + '/f', "
    "READ)][-1]",
    "query.longest_wins": "[caps.allow_path(tmp, RW), caps.allow_path(tmp + '/d', RW), "
    "QueryContext(caps).query_path(tmp + '/d/x', READ)][-1]",
    "query.insufficient": "[caps.allow_path(tmp, READ), QueryContext(caps).query_path(tmp, "
    "WRITE)][-1]",
    "query.two_grants": "[caps.allow_path(tmp, READ), caps.allow_path(tmp + '/d', WRITE), "
    "QueryContext(caps).query_path(tmp + '/d', RW)][-1]",
    "query.not_granted": "QueryContext(caps).query_path('/etc/passwd', READ)",
    "query.empty": "QueryContext(caps).query_path('', READ)",
    "query.escape": "[caps.allow_path(tmp + '/d', READ), "
    "QueryContext(caps).query_path(tmp + '/d/../f', READ)][-1]",
    "query.escape_missing": "[caps.allow_path(tmp + '/d', READ), "
    "QueryContext(caps).query_path(tmp + '/d/none/../../f', READ)['status']][-1]",
    "query.network_open": "QueryContext(caps).query_network()",
    "query.network_blocked": "[caps.block_network(), QueryContext(caps).query_network()][-1]",
    "query.network_ports": "[caps.allow_tcp_connect_port(443), "
    "QueryContext(caps).query_network()][-1]",
    "query.snapshot": "[q := QueryContext(caps), caps.allow_path(tmp, READ), "
    "q.query_path(tmp, READ)['status']][-1]",
    "query.no_set": "QueryContext(None)",
    # States
    "state.json": "[caps.allow_path(tmp, READ), caps.block_network(), "
    "reduced(json.loads(SandboxState.from_caps(caps).to_json()))][-1]",
    "state.pretty": "SandboxState.from_caps(caps).to_json().splitlines()[:2]",
    "state.repr": "repr(SandboxState.from_caps(caps)).lower()",
    "state.ports": "[caps.allow_bind_port(8080), SandboxState.from_caps(caps).net_blocked][-1]",
    "state.round_trip": "[caps.allow_path(tmp, READ), "
    "resolved(SandboxState.from_json(SandboxState.from_caps(caps).to_json()).to_caps())][-1]",
    "state.no_json": "SandboxState.from_json('{')",
    "state.missing_field": "SandboxState.from_json('{}')",
    "state.unknown_field": 'SandboxState.from_json(\'{"fs": [], "net_blocked": false, '
    '"x": 1}\').net_blocked',
    "state.forged": "SandboxState.from_json(json.dumps({'net_blocked': False, 'fs': "
    "[{'original': tmp, 'resolved': '/etc', 'access': 'read', 'is_file': False}]})).to_caps()",
    "state.missing_path": "SandboxState.from_json(json.dumps({'net_blocked': False, 'fs': "
    "[{'original': tmp + '/x', 'resolved': tmp + '/x', 'access': 'read', 'is_file': False}]}))"
    ".to_caps()",
    # This machine
    "support.fields": "[support_info().is_supported, support_info().platform]",
    "support.repr": "repr(support_info()).lower()",
    "support.details": "support_info().details.startswith('Landlock')",
    "abi.fields": "[type(getattr(detect_abi(), n)).__name__ for n in ABI]",
    "abi.names": "all(type(n) is str for n in detect_abi().feature_names)",
    "abi.repr": "re.sub('V[0-9]+', 'V', repr(detect_abi())), str(detect_abi()) == "
    "repr(detect_abi())",
    "apply.external": "nono_py.apply_external()",
    "apply.unlink_overrides": "nono_py.apply_unlink_overrides(caps)",
    # Commands
    "exec.result": "[r := run('echo', 'a'), r.stdout, r.stderr, r.exit_code, repr(r)][1:]",
    "exec.code": "run('sh', '-c', 'exit 3').exit_code",
    "exec.signal": "run('sh', '-c', 'kill -TERM $$').exit_code",
    "exec.timeout": "run('sleep', '9', timeout_secs=0.2).exit_code",
    "exec.environment": "run('env', env=[('B', '2'), ('A', '1'), ('A', '3')]).stdout",
    "exec.environment_mapping": "run('env', env={'A': '1'}).stdout",
    "exec.environment_empty": "run('env').stdout",
    "exec.environment_loader": "run('env', env=[('LD_PRELOAD', 'x')])",
    "exec.environment_name": "run('env', env=[('', 'x')])",
    "exec.environment_equals": "run('env', env=[('A=B', 'x')])",
    "exec.empty": "sandboxed_exec(caps, [])",
    "exec.empty_word": "sandboxed_exec(caps, [''])",
    "exec.text": "sandboxed_exec(caps, 'true')",
    "exec.nul": "sandboxed_exec(caps, ['a\\0b'])",
    "exec.missing": "sandboxed_exec(caps, ['no-such-program'])",
    "exec.nothing_granted": "sandboxed_exec(caps, ['true']).exit_code",
    "exec.cwd_missing": "run('true', cwd=tmp + '/missing')",
    "exec.cwd_file": "run('true', cwd=tmp + '/f').exit_code",
    "exec.timeout_negative": "run('true', timeout_secs=-1)",
    "exec.timeout_nan": "run('true', timeout_secs=float('nan'))",
    "exec.timeout_infinite": "run('true', timeout_secs=float('inf')).exit_code",
    "exec.mode_unknown": "run('true', enforcement_mode='none')",
    "exec.mode_landlock": "run('true', enforcement_mode='landlock').exit_code",
    "exec.mode_seccomp": "run('true', enforcement_mode='seccomp').exit_code",
    "exec.uid_zero": "run('true', uid=0)",
    "exec.limit_zero": "[raised(lambda: run('true', **{n: 0})) for n in LIMITS]",
    "exec.report_keys": "sorted(run('true').session_diagnostics())",
    "exec.report_success": "run('true').session_diagnostics()['diagnostics']",
    "exec.report_failure": "[d['code'] for d in run('false').session_diagnostics()['diagnostics']]",
    "exec.report_json": "json.loads(run('false').session_diagnostics_json()) == "
    "run('false').session_diagnostics()",
    "exec.report_of_program": "[d.get('remediation') for d in run('sh', '-c', "
    "'echo cat: /root/.ssh/id: Permission denied >&2; exit 1').session_diagnostics()"
    "['diagnostics'] if d.get('path')]",
    # Reports
    "report.keys": "sorted(nono_py.build_session_diagnostic_report(1))",
    "report.success": "nono_py.build_session_diagnostic_report(0)",
    "report.failure": "[(d['code'], d['severity'], d['remediation']) for d in "
    "nono_py.build_session_diagnostic_report(exit_code=2)['diagnostics']]",
    "report.merge": "nono_py.merge_diagnostic_report_json('{\"a\": 1}', '[2]')",
    "report.merge_alone": "nono_py.merge_diagnostic_report_json('{\"a\": 1}')",
    "report.merge_empty": "nono_py.merge_diagnostic_report_json('{\"a\": 1}', '')",
    "report.merge_broken": "nono_py.merge_diagnostic_report_json('{')",
    # Policies
    "policy.names": "policy(b={}, a={}).group_names()",
    "policy.repr": "repr(policy(a={}))",
    "policy.description": "[policy(a={}).group_description(n) for n in ('a', 'x')]",
    "policy.resolve": "[r := policy(g={'allow': {'read': [tmp]}, 'deny': {'access': "
    "[tmp + '/d']}}).resolve_groups(['g', 'g'], caps), r.names, r.deny_paths, "
    "r.needs_unlink_overrides, str(caps.fs_capabilities()[0].source)][1:]",
    "policy.resolved_repr": "repr(policy(g={}).resolve_groups(['g'], caps)).lower()",
    "policy.missing_skipped": "[policy(g={'allow': {'read': [tmp + '/x']}}).resolve_groups(['g'], "
    "caps), len(caps.fs_capabilities())][-1]",
    "policy.other_platform": "policy(g={'platform': 'macos'}).resolve_groups(['g'], caps).names",
    "policy.odd_platform": "policy(g={'platform': 'plan9'}).resolve_groups(['g'], caps).names",
    "policy.all_or_nothing": "[raised(lambda: policy(a={'allow': {'read': [tmp]}})"
    ".resolve_groups(['a', 'x'], caps)), len(caps.fs_capabilities())]",
    "policy.network_block": "[policy(g={'network': {'block': True}}).resolve_groups(['g'], caps), "
    "caps.is_network_blocked][-1]",
    "policy.network_proxy": "[policy(g={'network': {'allow_domain': ['a.example']}})"
    ".resolve_groups(['g'], caps), caps.is_network_blocked][-1]",
    "policy.aliases": "[policy(g={'network': {k: ['a.example']}}).resolve_proxy_config(['g'])"
    ".allowed_hosts for k in ('allow_domain', 'allow_proxy', 'proxy_allow')]",
    "policy.two_aliases": "policy(g={'network': {'allow_domain': [], 'allow_proxy': []}})",
    "policy.proxy_none": "policy(g={}).resolve_proxy_config(['g'])",
    "policy.proxy_merged": "[c := policy(a={'network': {'allow_domain': ['x.example', "
    "'y.example'], 'max_connections': 9}}, b={'network': {'allow_domain': ['y.example'], "
    "'max_connections': 4, 'upstream_proxy': 'p.example:1', 'upstream_bypass': ['z.example']}})"
    ".resolve_proxy_config(['a', 'b']), c.allowed_hosts, c.max_connections][1:]",
    "policy.proxy_conflict": "policy(a={'network': {'upstream_proxy': 'a.example:1'}}, "
    "b={'network': {'upstream_proxy': 'b.example:1'}}).resolve_proxy_config(['a', 'b'])",
    "policy.credentials": "policy(a={'network': {'credentials': ['x']}})"
    ".resolve_proxy_config(['a'])",
    "policy.unknown_group": "policy(a={}).resolve_groups(['x'], caps)",
    "policy.deny_paths": "policy(g={'deny': {'access': [tmp + '/l']}}).resolve_deny_paths(['g'])",
    "policy.required": "policy(g={'required': True}).validate_group_exclusions(['g'])",
    "policy.required_unknown": "policy(g={}).validate_group_exclusions(['x', 'g'])",
    "policy.no_json": "load_policy('{')",
    "policy.comment": "load_policy('// x')",
    "policy.unknown_field": 'load_policy(\'{"groups": {}, "x": 1}\')',
    "policy.no_groups": "load_policy('{}')",
    "policy.no_description": 'load_policy(\'{"groups": {"a": {}}}\')',
    "policy.group_twice": 'load_policy(\'{"groups": {"a": {"description": "1"}, '
    '"a": {"description": "2"}}}\').group_description(\'a\')',
    "policy.field_twice": 'load_policy(\'{"groups": {}, "groups": {}}\')',
    "policy.profiles": 'load_policy(\'{"groups": {}, "profiles": {"x": 1}}\').group_names()',
    "policy.literal_variable": "policy(g={'allow': {'read': ['${HOME}']}}).group_names()",
    "policy.embedded_text": "load_policy(embedded_policy_json()).group_names() == "
    "load_embedded_policy().group_names()",
    "overlap.none": "nono_py.validate_deny_overlaps(['/nowhere'], caps)",
    "overlap.beneath": "[caps.allow_path(tmp, READ), "
    "nono_py.validate_deny_overlaps([tmp + '/d'], caps)]",
    "overlap.equal": "[caps.allow_path(tmp, READ), nono_py.validate_deny_overlaps([tmp], caps)]",
    "overlap.dots": "[caps.allow_path(tmp + '/d', READ), "
    "nono_py.validate_deny_overlaps([tmp + '/x/../d/y'], caps)]",
    "overlap.link": "[caps.allow_path(tmp + '/d', READ), "
    "nono_py.validate_deny_overlaps([tmp + '/l/y'], caps)]",
    "overlap.file": "[caps.allow_file(tmp + '/f', READ), "
    "nono_py.validate_deny_overlaps([tmp + '/f'], caps)]",
    "overlap.group": "[policy(g={'allow': {'read': [tmp]}}).resolve_groups(['g'], caps), "
    "nono_py.validate_deny_overlaps([tmp + '/d'], caps)]",
    # Limited runs
    "limited.flags": "[caps.allow_path(tmp, READ), caps.allow_path(tmp + '/d', RW), "
    "caps.allow_file(tmp + '/f', RW), caps.block_network(), limited.caps_to_flags(caps)][-1]",
    "limited.flags_of_ports": "[caps.allow_bind_port(80), limited.caps_to_flags(caps)][-1]",
    "limited.flags_of_proxy": "with_proxy(lambda p: [caps.proxy_only(p), "
    "limited.caps_to_flags(caps)][-1])",
    "limited.argv": "argv(['a', '--b'], memory=' 512M ', max_processes=4)",
    "limited.argv_of_bytes": "argv(['a'], memory=1024)",
    "limited.argv_of_text": "argv('ab')",
    "limited.argv_of_paths": "argv([Path('/a')])",
    "limited.empty": "argv([])",
    "limited.memory": "[raised(lambda: argv(['a'], memory=m)) for m in (0, -1, True, '')]",
    "limited.memory_odd": "[raised(lambda: argv(['a'], memory=m)) for m in (1.5, 'x', b'1')]",
    "limited.processes": "[raised(lambda: argv(['a'], max_processes=n)) for n in (0, True, 1.5)]",
    "limited.missing": "limited.find_nono_binary('/nope')",
    "limited.directory": "limited.find_nono_binary(Path(tmp))",
    "limited.found": "limited.find_nono_binary(Path('/bin/sh'))",
    "limited.result": "[r := limited.RunResult(['a'], 137, 'o', b'e'), r.argv, r.returncode, "
    "r.stdout, r.stderr, r.ok, r.oom_killed, limited.RunResult(['a'], 0, None, None).ok][1:]",
    "limited.result_equality": "limited.RunResult(['a'], 0, None, None) == "
    "limited.RunResult(['a'], 0, None, None)",
    "limited.result_repr": "repr(limited.RunResult(['a'], 0, 'o', None))",
    "limited.result_frozen": "setattr(limited.RunResult(['a'], 0, 'o', None), 'argv', [])",
    "limited.oom": "limited.OOM_EXIT_CODE",
    "limited.module": "limited.RunResult.__module__",
    # The proxy
    "route.repr": "repr(RouteConfig('/a', 'https://a.example'))",
    "route.defaults": "[r := RouteConfig('/a', 'https://a.example'), r.credential_key, "
    "repr(r.inject_mode), r.inject_header, r.credential_format, r.path_pattern, "
    "r.path_replacement, r.query_param_name, r.env_var, r.endpoint_rules, r.tls_ca, "
    "r.tls_client_cert, r.tls_client_key][1:]",
    "proxy.repr": "[repr(ProxyConfig()), repr(ProxyConfig(['a.example'], "
    "[RouteConfig('/a', 'https://a.example')]))]",
    "proxy.defaults": "[c := ProxyConfig(), c.allowed_hosts, c.routes, c.bind_addr, c.bind_port, "
    "c.max_connections][1:]",
    "proxy.bad_address": "start_proxy(ProxyConfig(bind_addr='nowhere'))",
    "proxy.hostname": "ProxyConfig(bind_addr='localhost').bind_addr",
    "proxy.taken_address": "start_proxy(ProxyConfig(bind_addr='192.0.2.1'))",
    "proxy.no_config": "start_proxy(None)",
    "external.repr": "repr(ExternalProxyConfig('p.example:3128', ['a.example']))",
    "external.fields": "[e := ExternalProxyConfig('p.example:3128'), e.address, e.bypass_hosts]"
    "[1:]",
    "exclusion.glob_of_a_directory": "[Path(tmp, 'd/cache').mkdir(), "
    "Path(tmp, 'd/cache/x').touch(), Path(tmp, 'd/y').touch(), "
    "[Path(file).name for file in SnapshotManager(tmp + '/s', [tmp + '/d'], "
    "ExclusionConfig(exclude_globs=['ca*'])).create_baseline().files]][-1]",
    # Events
    "event.route": "event('GET /api/v1/x?y=1', 'mode', 'method', 'route_id', 'target', 'path', "
    "routes=[RouteConfig('/api', 'http://127.0.0.1:1')])",
    "event.tunnel_denied": "event('CONNECT other.example:443', *DECIDED)",
    "event.tunnel_unreachable": "event('CONNECT localhost:1', *DECIDED)",
    "event.forward_denied": "event('GET http://other.example/x', *DECIDED)",
    "event.forward_of_a_stranger": "event('GET http://localhost:1/x', *DECIDED, token='')",
    "event.external_denied": "event('CONNECT other.example:80', *DECIDED, "
    "external_proxy=ExternalProxyConfig('127.0.0.1:1'))",
    "event.external_unreachable": "event('CONNECT near.example:80', *DECIDED, "
    "external_proxy=ExternalProxyConfig('127.0.0.1:1'))",
    "handle.repr": "with_proxy(lambda p: re.sub('[0-9]+', 'N', repr(p)))",
    "handle.env": "with_proxy(lambda p: sorted(p.env_vars()))",
    "handle.drain": "with_proxy(lambda p: p.drain_audit_events())",
    "handle.proxy_only": "with_proxy(lambda p: [caps.proxy_only(p), caps.is_network_blocked, "
    "re.sub('[0-9]+', 'N', repr(caps))][1:])",
}


#: Modules that are public, besides the package itself.
MODULES = ("audit", "limited")


def outcome(expression: str, tmp: str) -> object:
    """Evaluate an expression: what comes of it, or which built-in exception it is."""
    names = surroundings(tmp)
    try:
        shown = json.dumps(plain(eval(expression, names)))
    except BaseException as error:
        return {"raises": builtin(type(error)), **attributes(error)}
    return json.loads(shown.replace(os.path.realpath(tmp), "TMP").replace(tmp, "TMP"))


def builtin(kind: "type[BaseException]") -> str:
    mro = kind.__mro__
    return str(next(c.__name__ for c in mro if getattr(builtins, c.__name__, None) is c))


def attributes(error: BaseException) -> "dict[str, Any]":
    said = {"diagnostic_code": getattr(error, "diagnostic_code", None)}
    if isinstance(error, OSError):
        said |= {"errno": error.errno, "filename": error.filename is not None}
    return said


def plain(value: object) -> object:
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    return value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)


def surroundings(tmp: str) -> "dict[str, Any]":
    """Return the names that expressions know."""
    import copy
    import pickle
    import weakref

    sandbox = nono_py
    caps = sandbox.CapabilitySet()
    mode = sandbox.AccessMode
    grant = sandbox.CapabilitySet()
    grant.allow_path(tmp + "/d", mode.READ)

    def run(*command: str, **options: Any) -> object:
        granted = sandbox.CapabilitySet()
        for path in ("/usr", "/bin", "/lib", "/lib64"):
            if Path(path).is_dir():
                granted.allow_path(path, mode.READ)
        return sandbox.sandboxed_exec(granted, list(command), **options)

    def policy(**groups: "dict[str, Any]") -> object:
        described = {name: {"description": f"d {name}", **g} for name, g in groups.items()}
        return sandbox.load_policy(json.dumps({"groups": described}))

    def raised(call: Callable[..., object]) -> "str | None":
        try:
            call()
        except Exception as error:
            return builtin(type(error))
        return None

    def with_proxy(call: Callable[..., object]) -> object:
        proxy = sandbox.start_proxy(sandbox.ProxyConfig())
        try:
            return call(proxy)
        finally:
            proxy.shutdown()

    def event(line: str, *keys: str, token: "str | None" = None, **options: Any) -> "list[Any]":
        """Return what the first event says of one request."""
        config = sandbox.ProxyConfig(allowed_hosts=["localhost", "near.example"], **options)
        proxy = sandbox.start_proxy(config)
        try:
            token = proxy.env_vars()["NONO_PROXY_TOKEN"] if token is None else token
            host = line.split()[1].removeprefix("http://").partition("/")[0] or "localhost"
            head = f"{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
            head += f"Proxy-Authorization: Bearer {token}\r\n\r\n"
            with socket.create_connection(("127.0.0.1", proxy.port), 20) as client:
                client.sendall(head.encode())
                while client.recv(4096):
                    pass
        finally:
            proxy.shutdown()
        first: dict[str, Any] = {**proxy.drain_audit_events()[0]}
        return [first[key] for key in keys]

    def reduced(state: "dict[str, Any]") -> object:
        known = ("original", "resolved", "access", "is_file")
        fs = [{key: grant[key] for key in known} for grant in state["fs"]]
        return {"fs": fs, "net_blocked": state["net_blocked"]}

    return {
        **vars(sandbox),
        **{"copy": copy, "json": json, "pickle": pickle, "re": re, "weakref": weakref},
        **{"nono_py": sandbox, "Path": Path, "tmp": tmp, "caps": caps, "chdir": os.chdir},
        **{"READ": mode.READ, "WRITE": mode.WRITE, "RW": mode.READ_WRITE},
        "grant": grant.fs_capabilities()[0],
        "resolved": lambda granted: [g.resolved for g in granted.fs_capabilities()],
        "SOURCES": [
            sandbox.CapabilitySource.user(),
            sandbox.CapabilitySource.group("g"),
            sandbox.CapabilitySource.system(),
        ],
        "INJECT": ("HEADER", "URL_PATH", "QUERY_PARAM", "BASIC_AUTH"),
        "ABI": ("has_refer", "has_truncate", "has_execute", "has_network", "has_ioctl_dev"),
        "LIMITS": ("max_processes", "max_cpu_seconds", "max_open_files"),
        "cannot": lambda kind: raised(kind),
        **{"run": run, "policy": policy, "raised": raised, "with_proxy": with_proxy},
        "reduced": reduced,
        "event": event,
        "DECIDED": ("mode", "decision", "target", "port", "denial_category"),
        **{module: getattr(sandbox, module) for module in MODULES},
        "argv": lambda command, **options: sandbox.limited.build_argv(
            caps, command, nono_bin="/bin/sh", **options
        ),
        **audited(audit, tmp),
    }


def signature(item: Any) -> "list[list[str]] | None":
    """Return the parameters of something that is called, with their defaults."""
    try:
        found = inspect.signature(item)
    except (TypeError, ValueError):
        return None
    parameters = [p for p in found.parameters.values() if p.name not in ("self", "cls")]
    return [
        [p.name, "required" if p.default is p.empty else repr(p.default), p.kind.name]
        for p in parameters
    ]


def members(kind: type) -> "dict[str, Any]":
    """Return the public attributes of a class: what they are and what they take."""
    found: dict[str, Any] = {}
    for name in sorted(n for n in dir(kind) if not n.startswith("_")):
        item = getattr(kind, name)
        found[name] = {"call": signature(item)} if callable(item) else "attribute"
    return found


def observed() -> "dict[str, Any]":
    """Return everything."""
    items = {name: getattr(nono_py, name) for name in nono_py.__all__}
    for place in MODULES:
        module = items[place]
        items |= {f"{place}.{name}": getattr(module, name) for name in module.__all__}
    public = sorted(items)
    facts: dict[str, Any] = {"names": public, "signatures": {}, "members": {}, "outcomes": {}}
    facts["groups"] = nono_py.load_embedded_policy().group_names()
    for name in public:
        # There are many ways to make a model; what they do is among the outcomes.
        if hasattr(items[name], "model_validate"):
            continue
        if callable(items[name]):
            facts["signatures"][name] = signature(items[name])
        if isinstance(items[name], type):
            facts["members"][name] = members(items[name])
    for label, expression in {**EXPRESSIONS, **AUDIT}.items():
        here = Path.cwd()
        tmp = tempfile.mkdtemp()
        try:
            (Path(tmp) / "d").mkdir()
            (Path(tmp) / "f").touch()
            (Path(tmp) / "l").symlink_to("d")
            facts["outcomes"][label] = outcome(expression, tmp)
        finally:
            os.chdir(here)
            shutil.rmtree(tmp)
    return facts


if __name__ == "__main__":
    json.dump(observed(), sys.stdout, indent=1, sort_keys=True)
    print()
