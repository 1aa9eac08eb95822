//! Any text is a policy or an error that says where; a policy is the same however often it is
//! read, and choosing its groups changes a set wholly or not at all.
#![cfg_attr(fuzzing, no_main)]

use nono_sandbox::CapabilitySet;
use nono_sandbox::policy::{Policy, PolicyError, Variables};

fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let policy = match Policy::parse(text) {
        Ok(policy) => policy,
        Err(error) => {
            assert!(matches!(error, PolicyError::Format { .. }), "{error}");
            assert!(error.to_string().contains(" line "), "{error}");
            return;
        }
    };
    assert_eq!(Policy::parse(text).ok().as_ref(), Some(&policy));
    let names: Vec<_> = policy.group_names().map(ToOwned::to_owned).collect();
    // Nothing beneath it exists, so that nothing of this machine is looked at.
    let variables = Variables::new(|_| Some("/nonexistent".into()));
    let mut caps = CapabilitySet::new();
    if policy.resolve(&names, &mut caps, &variables).is_err() {
        assert_eq!(caps, CapabilitySet::new());
    }
    let _ = policy.check_blocking(&names);
    let _ = policy.network_plan(&names);
    let _ = policy.limits(&names);
}

nono_fuzz::fuzz!(
    check,
    [
        br#"{"groups": {}}"#,
        br#"{"groups": {"g": {"description": "d", "allow": {"read": ["~/a", "$TMPDIR/b/"]}}}}"#,
        br#"{"groups": {"g": {"description": "d", "deny": {"access": ["/run/$UID"]}}}}"#,
        br#"{"groups": {"g": {"description": "", "network": {"allow_proxy": ["*.a.example"]}}}}"#,
        br#"{"groups": {"g": {"description": "", "platform": "linux", "required": true}}}"#,
        br#"{"groups": {"g": {"description": "", "limits": {"timeout_secs": 4.0}}}}"#,
        br#"{"groups": {"g": {"description": "", "network": {"custom_credentials": {"a":
            {"preset": "openai", "credential_key": "env://K", "extra_headers": {"a": "{}"}}}}}}}"#,
        br#"{"meta": {"version": 1}, "profiles": [1, {}], "groups": {"a": {"description": "\u00fc"}}}"#,
    ]
);
