//! The extension module behind the Python package `nono_py`: the same nouns, thin.
//!
//! Each file binds one noun and holds no policy of its own: arguments are converted, the lock
//! of the interpreter is let go while a call may block, and errors become Python's exceptions
//! in `error.rs`. What a value means is decided in the crates below.

#![forbid(unsafe_code)]

mod apply;
mod arguments;
mod audit;
mod blocking;
mod capability;
mod config;
mod consumer;
mod credential;
mod diagnostics;
mod drained;
mod ending;
mod enums;
mod error;
mod events;
mod exec;
mod external;
mod int;
mod judge;
mod local;
mod observe;
mod otlp;
mod policy;
mod process;
mod provided;
mod proxy;
mod query;
mod recording;
mod result;
mod route;
mod session;
mod session_log;
mod snapshot;
mod source;
mod state;
mod stdio;
mod value;
mod verify;

/// The extension module; `nono_py/__init__.py` re-exports what is public.
#[pyo3::pymodule(gil_used = false)]
mod _nono_py {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::apply::{
        PyDetectedAbi, PyEnforcement, PySupportInfo, apply, apply_auto_with_abi, apply_external,
        apply_landlock, apply_landlock_with_abi, apply_seccomp, apply_seccomp_with_abi,
        apply_unlink_overrides, detect_abi, is_supported, support_info,
    };
    #[pymodule_export]
    use crate::audit::verify_audit;
    #[pymodule_export]
    use crate::capability::{PyCapabilitySet, PyFsCapability};
    #[pymodule_export]
    use crate::config::PyProxyConfig;
    #[pymodule_export]
    use crate::consumer::PyAuditEvents;
    #[pymodule_export]
    use crate::credential::{
        PyOAuth2Config, PyVaultConfig, check_credential, list_credentials, store_credential,
    };
    #[pymodule_export]
    use crate::diagnostics::{build_session_diagnostic_report, merge_diagnostic_report_json};
    #[pymodule_export]
    use crate::events::PyAuditEvent;
    #[pymodule_export]
    use crate::exec::{PyCommand, sandboxed_exec};
    #[pymodule_export]
    use crate::external::PyExternalProxyConfig;
    #[pymodule_export]
    use crate::judge::{PyJudge, refusals};
    #[pymodule_export]
    use crate::observe::observe;
    #[pymodule_export]
    use crate::policy::{
        PyPolicy, PyResolvedPolicy, embedded_policy_json, load_embedded_policy, load_policy,
        policy_schema_json, validate_deny_overlaps,
    };
    #[pymodule_export]
    use crate::process::{PyChild, PyRun};
    #[pymodule_export]
    use crate::proxy::{PyProxyHandle, start_proxy};
    #[pymodule_export]
    use crate::query::PyQueryContext;
    #[pymodule_export]
    use crate::result::PyExecResult;
    #[pymodule_export]
    use crate::route::PyRouteConfig;
    #[pymodule_export]
    use crate::session::PySessionMetadata;
    #[pymodule_export]
    use crate::session_log::{
        PySessionLog, PySigningKey, audit_model, check_ledger_session_id, digest, dsse_pae,
        inclusion_proof, ledger_record, verify_bundle, verify_bundle_in, verify_inclusion_proof,
        verify_session_ledger, verify_session_log,
    };
    #[pymodule_export]
    use crate::snapshot::{
        PyChange, PyContentHash, PyExclusionConfig, PyFileState, PySnapshotManager,
        PySnapshotManifest,
    };
    #[pymodule_export]
    use crate::source::PyCapabilitySource;
    #[pymodule_export]
    use crate::state::PySandboxState;
    #[pymodule_export]
    use crate::verify::{PyCheck, PyVerification};

    /// What changes the environment from Python holds the interpreter's lock.
    #[pymodule_init]
    #[expect(clippy::unnecessary_wraps, reason = "the shape that the macro wants")]
    fn init(_module: &Bound<'_, PyModule>) -> PyResult<()> {
        nono_credentials::hold_environment_by(|read| Python::try_attach(|_| read()).is_some());
        Ok(())
    }

    /// The version of the package.
    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "the name that Python expects")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
