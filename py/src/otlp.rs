//! The options of the export to a collector of OpenTelemetry.

use std::path::PathBuf;

use nono_audit::queue::QueueOptions;
use nono_proxy::{Compression, OtlpConfig};
use pyo3::prelude::*;

use crate::arguments::time_limit;
use crate::error::argument_error;

/// All of them but the address, as Python programs give them.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct OtlpOptions {
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) credential_key: Option<String>,
    pub(crate) tls_ca: Option<PathBuf>,
    pub(crate) service_name: Option<String>,
    pub(crate) resource_attributes: Vec<(String, String)>,
    pub(crate) compression: Option<String>,
    pub(crate) queue_dir: Option<PathBuf>,
    pub(crate) queue_bytes: Option<u64>,
    pub(crate) timeout_secs: Option<f64>,
    pub(crate) flush_secs: Option<f64>,
}

/// The export to `endpoint`, if there is one; none of `options` means anything without.
///
/// # Errors
/// `ConfigurationError`: there are options and no address, or one is none that there is.
pub(crate) fn config(
    endpoint: Option<String>,
    options: OtlpOptions,
) -> PyResult<Option<OtlpConfig>> {
    let Some(endpoint) = endpoint else {
        return if options == OtlpOptions::default() {
            Ok(None)
        } else {
            Err(argument_error("the otlp_ options need otlp_endpoint beside them"))
        };
    };
    let limit = |field, secs: Option<f64>, default| {
        secs.map_or(Ok(default), |secs| time_limit(field, secs))
    };
    let defaults = OtlpConfig::default();
    Ok(Some(OtlpConfig {
        endpoint,
        headers: last_of_each(options.headers),
        credential_key: options.credential_key,
        tls_ca: options.tls_ca,
        service_name: options.service_name.unwrap_or(defaults.service_name),
        resource_attributes: last_of_each(options.resource_attributes),
        compression: options.compression.map_or(Ok(defaults.compression), |it| compression(&it))?,
        queue: queue(options.queue_dir, options.queue_bytes)?,
        timeout: limit("otlp_timeout_secs", options.timeout_secs, defaults.timeout)?,
        flush: limit("otlp_flush_secs", options.flush_secs, defaults.flush)?,
    }))
}

/// Pairs as a dictionary has them, which is what a program is given again: of one name the last.
fn last_of_each(pairs: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut kept = Vec::<(String, String)>::new();
    for (name, value) in pairs {
        match kept.iter_mut().find(|(known, _)| *known == name) {
            Some((_, before)) => *before = value,
            None => kept.push((name, value)),
        }
    }
    kept
}

fn compression(text: &str) -> PyResult<Compression> {
    match text {
        "gzip" => Ok(Compression::Gzip),
        "none" => Ok(Compression::None),
        _ => Err(argument_error("otlp_compression must be 'gzip' or 'none'")),
    }
}

fn queue(directory: Option<PathBuf>, max_bytes: Option<u64>) -> PyResult<Option<QueueOptions>> {
    match (directory, max_bytes) {
        (None, Some(_)) => Err(argument_error("otlp_queue_bytes needs otlp_queue_dir beside it")),
        (None, None) => Ok(None),
        (Some(directory), max_bytes) => {
            let max_bytes = max_bytes.unwrap_or(QueueOptions::DEFAULT_BYTES);
            Ok(Some(QueueOptions { directory, max_bytes }))
        }
    }
}
