"""Records of what programs did, to `logging` and to a file that shows if it was changed."""

import json
import logging
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import api
from nono_py import AuditLogger, ProxyConfig, RouteConfig, start_proxy

logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stdout)

with api.running() as upstream, tempfile.TemporaryDirectory() as directory:
    log = Path(directory) / "audit-events.ndjson"
    config = ProxyConfig(routes=[RouteConfig("/model", upstream)], audit_file=log)
    with start_proxy(config) as proxy:
        token = proxy.env_vars()["NONO_PROXY_TOKEN"]
        with AuditLogger(proxy):
            for path in ("/model/v1", "/nowhere"):
                url = f"http://{proxy.address}{path}"
                request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
                try:
                    urllib.request.urlopen(request).read()
                except urllib.error.HTTPError as error:
                    logging.info("refused: %s", json.load(error)["code"])
        # Each record is taken once from here; the logger had a place of its own.
        for event in proxy.drain_audit_events():
            print(event["decision"], event["target"], event["status"], f"{event['duration_ms']} ms")
    # The hash of the last line is what to keep elsewhere: `--head` compares with it.
    verify = [sys.executable, "-m", "nono_py", "audit", "verify", str(log)]
    print(subprocess.run(verify, capture_output=True, text=True, check=True).stdout)
