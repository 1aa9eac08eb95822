//! What a proxy would say of a host or an endpoint: for `explain`.

use nono_proxy::{Judge, Verdict};
use pyo3::prelude::*;

use crate::config::PyProxyConfig;
use crate::error::{argument_error, config_error};

/// The code that a request would be refused with, the rule that decides, and the route.
type Answer = (Option<&'static str>, Option<String>, Option<String>);

/// Status, code, error type of `Proxy-Status`, what is said, and what to do about it.
type Refused = (u16, &'static str, &'static str, String, Option<String>);

/// All that a client can be refused or failed with, in words about an example.
#[pyfunction]
#[pyo3(name = "_refusals")]
pub(crate) fn refusals() -> Vec<Refused> {
    let all = nono_proxy::refusals().into_iter();
    all.map(|it| (it.status, it.code, it.proxy_status, it.message, it.hint)).collect()
}

/// Answers by the rules of a `ProxyConfig`, without a proxy.
#[pyclass(name = "_Judge", module = "nono_py", frozen)]
#[derive(Debug)]
pub(crate) struct PyJudge {
    inner: Judge,
}

#[pymethods]
impl PyJudge {
    #[new]
    fn new(config: &Bound<'_, PyProxyConfig>) -> PyResult<Self> {
        Ok(Self { inner: Judge::new(&config.get().to_config()).map_err(config_error)? })
    }

    /// Whether a host and port may be reached.
    fn host(&self, host: &str, port: u16) -> PyResult<Answer> {
        let verdict = self.inner.host(host, port);
        verdict
            .map(answer)
            .ok_or_else(|| argument_error(format!("'{}' is not a host", host.escape_debug())))
    }

    /// Whether a request may go through a route.
    fn endpoint(&self, method: &str, path: &str) -> PyResult<Answer> {
        let verdict = self.inner.endpoint(method, path);
        verdict
            .map(answer)
            .ok_or_else(|| argument_error(format!("'{}' is not a method", method.escape_debug())))
    }
}

fn answer(Verdict { refusal, rule, route }: Verdict) -> Answer {
    (refusal, rule.map(Into::into), route.map(Into::into))
}
