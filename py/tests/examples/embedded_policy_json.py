from nono_py import embedded_policy_json

raw = embedded_policy_json()
print(raw[:80])
