"""A program uses an API with a key that it never sees."""

import os
import sys

import api
from nono_py import CapabilitySet, ProxyConfig, RouteConfig, sandboxed_exec, start_proxy

AGENT = """
import os, urllib.request
url, key = os.environ["MODEL_BASE_URL"], os.environ["MODEL_API_KEY"]
request = urllib.request.Request(url + "/v1/models", headers={"Authorization": "Bearer " + key})
print("it sends", key[:4] + "..., and the API says:", urllib.request.urlopen(request).read())
"""

os.environ["REAL_KEY"] = "sk-real"
with api.running() as upstream:
    route = RouteConfig(
        "/model",
        upstream,  # in earnest: RouteConfig.preset("openai", credential_key=...)
        credential_key="env://REAL_KEY",
        endpoint_rules=[("GET", "/v1/models"), ("POST", "/v1/chat/**")],
    )
    caps = CapabilitySet()
    caps.allow_interpreter()
    with start_proxy(ProxyConfig(routes=[route])) as proxy:
        result = sandboxed_exec(caps, [sys.executable, "-c", AGENT], proxy=proxy, timeout_secs=60)
print(result.check().text)
