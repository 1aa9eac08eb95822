//! Tests that need a process of their own: in a network namespace, so that a mistake reaches
//! nothing, or with an environment that others must not see.

use std::ffi::OsStr;
use std::io::Write as _;
use std::process::{Command, Output};

use tempfile::NamedTempFile;

/// Set in the process that runs apart.
const MARK: &str = "NONO_TEST_APART";

/// Makes the namespace's only interface usable.
const UP: &str = "ip link set lo up";

/// Runs the test called `name` in a network namespace whose only interface is `lo`: the test
/// binary is started again there for this test alone. Where namespaces are not to be had, the
/// test is left out, and says so.
pub fn isolated(name: &str, test: impl FnOnce()) {
    in_namespace(name, "127.0.0.1 localhost\n::1 localhost\n", test);
}

/// As [`isolated`], for a test that is a future.
pub fn isolated_async(name: &str, test: impl Future<Output = ()>) {
    isolated(name, || block_on(test));
}

/// As [`isolated_async`], where names resolve as in `hosts`, in the form of `/etc/hosts`, which
/// the test may overwrite.
pub fn isolated_with_hosts(name: &str, hosts: &str, test: impl Future<Output = ()>) {
    in_namespace(name, hosts, || block_on(test));
}

fn in_namespace(name: &str, hosts: &str, test: impl FnOnce()) {
    if is_apart() {
        return test();
    }
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(hosts.as_bytes()).unwrap();
    let up = format!("mount --bind \"$0\" /etc/hosts && {UP}");
    let unshare = |script: &str, args: &[&OsStr]| -> Option<Output> {
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount"]);
        // Tests say for themselves whom they trust.
        command.env_remove("SSL_CERT_FILE").env_remove("SSL_CERT_DIR");
        // A namespace of users has no other ones, which some tests need.
        if !rustix::process::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        command.args(["sh", "-c", script]).arg(file.path()).args(args).env(MARK, "1").output().ok()
    };
    if !unshare(&up, &[]).is_some_and(|output| output.status.success()) {
        eprintln!("left out: no network namespace with `lo` can be made here");
        return;
    }
    let own = std::env::current_exe().unwrap();
    let script = format!("{up} && exec \"$1\" --exact \"$2\" --nocapture");
    assert_passed(&unshare(&script, &[own.as_os_str(), name.as_ref()]).unwrap());
}

/// Runs the test called `name` in a process of its own, with more variables in its environment.
pub fn apart(name: &str, variables: &[(&str, &OsStr)], test: impl Future<Output = ()>) {
    if is_apart() {
        return block_on(test);
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture"]).env(MARK, "1");
    assert_passed(&command.envs(variables.iter().copied()).output().unwrap());
}

fn is_apart() -> bool {
    std::env::var_os(MARK).is_some()
}

fn block_on(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

fn assert_passed(output: &Output) {
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && told.contains("1 passed"),
        "{told}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
