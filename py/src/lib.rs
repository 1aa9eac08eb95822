//! The extension module behind the Python package `nono_py`: the same nouns, thin.
//!
//! Each file binds one noun and holds no policy of its own: arguments are converted, the lock
//! of the interpreter is let go while a call may block, and errors become Python's exceptions
//! in `error.rs`. What a value means is decided in the crates below.

#![forbid(unsafe_code)]

mod arguments;
mod audit;
mod blocking;
mod capability;
mod config;
mod enums;
mod error;
mod exec;
mod proxy;
mod route;

/// The extension module; `nono_py/__init__.py` re-exports what is public.
#[pyo3::pymodule]
mod _nono_py {
    #[pymodule_export]
    use crate::capability::{
        PyCapabilitySet, PyFsCapability, PySupportInfo, apply, is_supported, support_info,
    };
    #[pymodule_export]
    use crate::config::{PyExternalProxyConfig, PyProxyConfig};
    #[pymodule_export]
    use crate::exec::{PyExecResult, sandboxed_exec};
    #[pymodule_export]
    use crate::proxy::{PyProxyHandle, start_proxy};
    #[pymodule_export]
    use crate::route::PyRouteConfig;

    /// The version of the package.
    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "the name that Python expects")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
