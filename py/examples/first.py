"""A program finds a base URL and a token, and no key."""

import os

from nono_py import CapabilitySet, ProxyConfig, RouteConfig, sandboxed_exec, start_proxy

os.environ["REAL_KEY"] = "sk-..."  # or keep it in the keyring: credential_key="openai"
route = RouteConfig.preset("openai", credential_key="env://REAL_KEY")
caps = CapabilitySet()
caps.allow_interpreter()
with start_proxy(ProxyConfig(routes=[route])) as proxy:
    caps.proxy_only(proxy)
    result = sandboxed_exec(caps, ["env"], env=proxy.sandbox_env())
    print(result.stdout.decode())  # OPENAI_BASE_URL and a token; the key is not there
    print(proxy.drain_audit_events())
