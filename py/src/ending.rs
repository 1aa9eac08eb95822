//! What is known of a program's end besides what it wrote: plain values, as `pickle` keeps them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use nono_sandbox::{CapabilitySet, Enforcement, Output, Report};
use pyo3::PyResult;
use serde::{Deserialize, Serialize};

use crate::value::to_json;

/// The fields of an `ExecResult`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ending {
    pub(crate) exit_code: i32,
    pub(crate) signal: Option<i32>,
    pub(crate) timed_out: bool,
    pub(crate) truncated: bool,
    pub(crate) duration: Duration,
    pub(crate) cpu_time: Duration,
    pub(crate) max_rss: Option<u64>,
    pub(crate) oom_killed: bool,
    pub(crate) enforcement: Enforced,
    /// By what each limit was enforced, by its name.
    pub(crate) limits: BTreeMap<Cow<'static, str>, Cow<'static, str>>,
    pub(crate) dropped_env: Vec<OsString>,
    /// Why it may have failed, as JSON.
    pub(crate) report: String,
}

impl Ending {
    /// What `output`, of a program that ran under `caps`, comes to.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub(crate) fn new(output: Output, caps: &CapabilitySet) -> PyResult<Self> {
        let report = to_json(&Report::new(&output, caps))?;
        let limits = output.limits.into_iter().map(|(limit, by)| (limit.into(), by.name().into()));
        Ok(Self {
            exit_code: output.exit_code,
            signal: output.signal,
            timed_out: output.timed_out,
            truncated: output.truncated,
            duration: output.duration,
            cpu_time: output.cpu_time,
            max_rss: output.max_rss,
            oom_killed: output.oom_killed,
            enforcement: output.enforcement.into(),
            limits: limits.collect(),
            dropped_env: output.dropped_variables,
            report,
        })
    }
}

/// The fields of an `Enforcement`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Enforced {
    pub(crate) landlock_abi: u32,
    pub(crate) network: String,
    pub(crate) domains: usize,
    pub(crate) is_no_new_privileges: bool,
    pub(crate) is_filtered: bool,
    pub(crate) missing: Vec<Cow<'static, str>>,
    /// All of it in words.
    pub(crate) text: String,
}

impl From<Enforcement> for Enforced {
    fn from(found: Enforcement) -> Self {
        Self {
            landlock_abi: found.landlock_abi(),
            network: found.network().to_string(),
            domains: found.domains(),
            is_no_new_privileges: found.is_no_new_privileges(),
            is_filtered: found.is_filtered(),
            missing: found.missing().iter().copied().map(Cow::Borrowed).collect(),
            text: found.to_string(),
        }
    }
}
