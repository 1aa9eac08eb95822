"""What a set would allow, before anything runs."""

from nono_py import AccessMode, CapabilitySet, QueryContext

caps = CapabilitySet()
caps.allow_system()
caps.allow_path("/tmp", AccessMode.READ)
caps.block_network()

query = QueryContext(caps)
answer = query.query_path("/tmp/note", AccessMode.WRITE)
if answer["reason"] == "insufficient_access":
    print("there is a grant, but only to", answer["granted"])
print("this would allow it:", query.suggest_path("/tmp/note", AccessMode.WRITE))
print(query.query_network("192.0.2.1", 443))

print(caps.summary())
verification = caps.verify()
print(len(verification.checks), "attempts, all denied:", bool(verification))
