//! Tests of addresses that must not be reached run where a mistake reaches nothing.

use std::process::{Command, Output};

/// Set in the process that runs isolated.
const MARK: &str = "NONO_TEST_ISOLATED";

/// Runs the test called `name` in a network namespace whose only interface is `lo`: the test
/// binary is started again there for this test alone. Where namespaces are not to be had, the
/// test is left out, and says so.
pub fn isolated(name: &str, test: impl FnOnce()) {
    if std::env::var_os(MARK).is_some() {
        return test();
    }
    let unshare = |script: &str, args: &[&str]| -> Option<Output> {
        let mut command = Command::new("unshare");
        command.args(["--net", "--map-root-user", "sh", "-c", script]).args(args);
        command.env(MARK, "1").output().ok()
    };
    let up = "ip link set lo up";
    if !unshare(up, &[]).is_some_and(|output| output.status.success()) {
        eprintln!("left out: no network namespace with `lo` can be made here");
        return;
    }
    let own = std::env::current_exe().unwrap();
    let script = format!("{up} && exec \"$0\" --exact \"$1\" --nocapture");
    let output = unshare(&script, &[own.to_str().unwrap(), name]).unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && told.contains("1 passed"),
        "{told}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// As [`isolated`], for a test that is a future.
pub fn isolated_async(name: &str, test: impl Future<Output = ()>) {
    isolated(name, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test);
    });
}
