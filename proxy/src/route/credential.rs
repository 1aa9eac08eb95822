//! How a route's options become its credential. An option that would have no effect, or whose
//! effect could not stand on the wire, is a mistake found here and not at the first request.

use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST};
use http::{HeaderName, HeaderValue};
use nono_credentials::{Credential, Injection, Locator, ParseError, Pattern};

use crate::config::{ConfigError, InjectMode, RouteConfig};
use crate::headers::is_hop_by_hop;

/// The credential of a route, not yet loaded; `None` if it has none.
pub(super) fn parse(config: &RouteConfig) -> Result<Option<Credential>, ConfigError> {
    reject_stray_options(config)?;
    let injection = parse_injection(config)?;
    let Some(key) = &config.credential_key else {
        return Ok(None);
    };
    let locator = Locator::parse(key).map_err(|error| wrong("credential_key", key, &error))?;
    Ok(Some(Credential::new(locator, injection)))
}

fn parse_injection(config: &RouteConfig) -> Result<Injection, ConfigError> {
    match config.inject_mode {
        InjectMode::Header => {
            let name = parse_header(&config.inject_header)?;
            let format = match &config.credential_format {
                Some(text) => parse_format(text)?,
                None if name == AUTHORIZATION => parse_format("Bearer {}")?,
                None => Pattern::bare(),
            };
            Ok(Injection::Header { name, format })
        }
        InjectMode::BasicAuth => {
            Ok(Injection::BasicAuth { name: parse_header(&config.inject_header)? })
        }
        InjectMode::QueryParam => {
            let name = required("query_param_name", config.query_param_name.as_ref(), config)?;
            let is_plain =
                |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~' | '$');
            if name.is_empty() || !name.chars().all(is_plain) {
                let reason = "it is not a plain parameter name";
                return Err(ConfigError::new("query_param_name", name, reason));
            }
            Ok(Injection::QueryParam { name: name.clone() })
        }
        InjectMode::UrlPath => {
            let text = required("path_pattern", config.path_pattern.as_ref(), config)?;
            let pattern = parse_path("path_pattern", text)?;
            let replacement = match &config.path_replacement {
                Some(text) => parse_path("path_replacement", text)?,
                None => pattern.clone(),
            };
            Ok(Injection::UrlPath { pattern, replacement })
        }
    }
}

fn reject_stray_options(config: &RouteConfig) -> Result<(), ConfigError> {
    use InjectMode::{BasicAuth, Header, QueryParam, UrlPath};
    let mode = config.inject_mode;
    let is_default = config.inject_header.eq_ignore_ascii_case("authorization");
    let header = (!is_default).then(|| config.inject_header.clone());
    let named_mode = (mode != Header).then(|| mode.as_str().to_owned());
    let options: [(_, _, &[InjectMode]); 6] = [
        ("inject_mode", &named_mode, &[BasicAuth, QueryParam, UrlPath]),
        ("inject_header", &header, &[Header, BasicAuth]),
        ("credential_format", &config.credential_format, &[Header]),
        ("path_pattern", &config.path_pattern, &[UrlPath]),
        ("path_replacement", &config.path_replacement, &[UrlPath]),
        ("query_param_name", &config.query_param_name, &[QueryParam]),
    ];
    for (field, value, homes) in options {
        let Some(value) = value else { continue };
        let reason = if !homes.contains(&mode) {
            format!("it has no effect with inject_mode {}", mode.as_str())
        } else if config.credential_key.is_none() {
            "it has no effect without `credential_key`".into()
        } else {
            continue;
        };
        return Err(ConfigError::new(field, value, reason));
    }
    Ok(())
}

fn required<'a>(
    field: &str,
    value: Option<&'a String>,
    config: &RouteConfig,
) -> Result<&'a String, ConfigError> {
    let reason = || format!("inject_mode {} needs it", config.inject_mode.as_str());
    value.ok_or_else(|| ConfigError::new(field, "None", reason()))
}

fn parse_header(text: &str) -> Result<HeaderName, ConfigError> {
    let wrong = |reason| ConfigError::new("inject_header", text, reason);
    let name =
        HeaderName::from_bytes(text.as_bytes()).map_err(|_| wrong("it is not a header name"))?;
    if is_hop_by_hop(&name) || matches!(name, HOST | CONTENT_LENGTH) {
        return Err(wrong("the proxy itself sets or removes this header"));
    }
    Ok(name)
}

/// A header's value around the secret.
fn parse_format(text: &str) -> Result<Pattern, ConfigError> {
    if HeaderValue::from_str(text).is_err() {
        let reason = "it holds a character that no header may hold";
        return Err(ConfigError::new("credential_format", text, reason));
    }
    Pattern::parse(text).map_err(|error| wrong("credential_format", text, &error))
}

/// A part of a path around the secret.
fn parse_path(field: &str, text: &str) -> Result<Pattern, ConfigError> {
    let pattern = Pattern::parse(text).map_err(|error| wrong(field, text, &error))?;
    let fits =
        |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '\\' | '%' | '"' | '<' | '>');
    if text.starts_with('/') && text.chars().all(fits) {
        Ok(pattern)
    } else {
        let reason = "it must be a part of a path: begin with `/`, and hold no query, escape or \
                      space";
        Err(ConfigError::new(field, text, reason))
    }
}

fn wrong(field: &str, value: &str, error: &ParseError) -> ConfigError {
    let shown = if matches!(error, ParseError::Secret) { "(not shown)" } else { value };
    let mistake = ConfigError::new(field, shown, error.to_string());
    match error {
        ParseError::Invalid(_) | ParseError::Secret => mistake,
        ParseError::Unsupported(_) => mistake.unsupported(),
    }
}
