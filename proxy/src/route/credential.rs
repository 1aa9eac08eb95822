//! How a route's options become its credential. An option that would have no effect, or whose
//! effect could not stand on the wire, is a mistake found here and not at the first request.

use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST};
use http::{HeaderName, HeaderValue};
use nono_credentials::{Credential, Header, Injection, Locator, Options, ParseError, Pattern};

use crate::config::{ConfigError, InjectMode, Limits, RouteConfig};
use crate::headers::is_hop_by_hop;
use crate::location::shown;

/// How long what a command prints is valid: less than any cloud's tokens.
const COMMAND_TTL: Duration = Duration::from_mins(5);

/// The credential of a route, not yet loaded; `None` if it has none.
pub(super) fn parse(config: &RouteConfig) -> Result<Option<Credential>, ConfigError> {
    reject_stray_options(config)?;
    reject_stray_source(config)?;
    let injection = parse_injection(config)?;
    let Some(locator) = parse_locator(config)? else { return Ok(None) };
    let credential = Credential::new(locator, injection).with_headers(parse_headers(config)?);
    Ok(Some(credential.valid_for(parse_ttl(config)?)))
}

/// Where the credential comes from; from one place at most.
fn parse_locator(config: &RouteConfig) -> Result<Option<Locator>, ConfigError> {
    match (&config.credential_key, &config.credential, &config.oauth2) {
        (Some(key), None, None) => {
            let options =
                Options { command: &config.credential_command, vault: config.vault.as_ref() };
            let parsed = Locator::parse_with(key, options);
            parsed.map(Some).map_err(|error| wrong("credential_key", key, &error))
        }
        (None, Some(provided), None) => Ok(Some(Locator::Provided(provided.clone()))),
        (None, None, Some(oauth2)) => {
            let parsed = Locator::oauth2(oauth2);
            parsed.map(Some).map_err(|error| wrong("oauth2", shown(&oauth2.token_url), &error))
        }
        (None, None, None) => Ok(None),
        _ => {
            let reason = "of `credential_key`, `credential` and `oauth2` a route has one of them";
            Err(ConfigError::new("prefix", &config.prefix, reason))
        }
    }
}

/// The options of a source, where there is no reference to it.
fn reject_stray_source(config: &RouteConfig) -> Result<(), ConfigError> {
    let command = config.credential_command.first().map(String::as_str);
    let vault = config.vault.as_ref().map(|vault| shown(&vault.address));
    for (field, value) in [("credential_command", command), ("vault", vault)] {
        if let (None, Some(value)) = (&config.credential_key, value) {
            let reason = "it has no effect without `credential_key`";
            return Err(ConfigError::new(field, value, reason));
        }
    }
    Ok(())
}

fn parse_ttl(config: &RouteConfig) -> Result<Option<Duration>, ConfigError> {
    let is_command = !config.credential_command.is_empty();
    let Some(ttl) = config.credential_ttl.or_else(|| is_command.then_some(COMMAND_TTL)) else {
        return Ok(None);
    };
    if ttl.is_zero() || ttl > Limits::LONGEST {
        let reason = "it must be longer than nothing and at most 30 days";
        return Err(ConfigError::new("credential_ttl", format!("{ttl:?}"), reason));
    }
    Ok(Some(ttl))
}

fn parse_headers(config: &RouteConfig) -> Result<Vec<Header>, ConfigError> {
    let mut names = vec![];
    if matches!(config.inject_mode, InjectMode::Header | InjectMode::BasicAuth) {
        names.push(parse_header("inject_header", &config.inject_header)?);
    }
    let parse = |(name, value): &(String, String)| {
        let header = parse_further("extra_headers", name, value)?;
        if names.contains(header.name()) {
            let reason = "this header is set twice";
            return Err(ConfigError::new("extra_headers", name, reason));
        }
        names.push(header.name().clone());
        Ok(header)
    };
    config.extra_headers.iter().map(parse).collect()
}

/// A header of its own that `field` sets. Errors do not show its value, which may hold a key.
pub(crate) fn parse_further(field: &str, name: &str, value: &str) -> Result<Header, ConfigError> {
    let header = parse_header(field, name)?;
    let Ok(constant) = HeaderValue::from_str(value) else {
        let reason = "its value holds a character that no header may hold";
        return Err(ConfigError::new(field, name, reason));
    };
    if !Pattern::has_placeholder(value) {
        return Ok(Header::Constant(header, constant));
    }
    let pattern = Pattern::parse(value).map_err(|error| wrong(field, name, &error))?;
    Ok(Header::Secret(header, pattern))
}

fn parse_injection(config: &RouteConfig) -> Result<Injection, ConfigError> {
    match config.inject_mode {
        InjectMode::Header => {
            let name = parse_header("inject_header", &config.inject_header)?;
            let format = match &config.credential_format {
                Some(text) => parse_format(text)?,
                None if name == AUTHORIZATION => parse_format("Bearer {}")?,
                None => Pattern::bare(),
            };
            Ok(Injection::Header { name, format })
        }
        InjectMode::BasicAuth => {
            let name = parse_header("inject_header", &config.inject_header)?;
            Ok(Injection::BasicAuth { name })
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
    let ttl = config.credential_ttl.map(|ttl| format!("{ttl:?}"));
    let headers = config.extra_headers.first().map(|(name, _)| name.clone());
    let options: [(_, _, &[InjectMode]); 8] = [
        ("inject_mode", &named_mode, &[BasicAuth, QueryParam, UrlPath]),
        ("inject_header", &header, &[Header, BasicAuth]),
        ("credential_format", &config.credential_format, &[Header]),
        ("path_pattern", &config.path_pattern, &[UrlPath]),
        ("path_replacement", &config.path_replacement, &[UrlPath]),
        ("query_param_name", &config.query_param_name, &[QueryParam]),
        ("credential_ttl", &ttl, &[Header, BasicAuth, QueryParam, UrlPath]),
        ("extra_headers", &headers, &[Header, BasicAuth, QueryParam, UrlPath]),
    ];
    for (field, value, homes) in options {
        let Some(value) = value else { continue };
        let reason = if !homes.contains(&mode) {
            format!("it has no effect with inject_mode {}", mode.as_str())
        } else if !has_credential(config) {
            "it has no effect without `credential_key`".into()
        } else {
            continue;
        };
        return Err(ConfigError::new(field, value, reason));
    }
    Ok(())
}

/// Whether the route names a credential of its own.
pub(crate) fn has_credential(config: &RouteConfig) -> bool {
    config.credential_key.is_some() || config.credential.is_some() || config.oauth2.is_some()
}

fn required<'a>(
    field: &str,
    value: Option<&'a String>,
    config: &RouteConfig,
) -> Result<&'a String, ConfigError> {
    let mode = config.inject_mode.as_str();
    value.ok_or_else(|| ConfigError::new("inject_mode", mode, format!("it needs `{field}`")))
}

fn parse_header(field: &str, text: &str) -> Result<HeaderName, ConfigError> {
    let wrong = |reason| ConfigError::new(field, text, reason);
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

/// Where the key is that `field` is to name. A key itself in its place is not shown.
pub(crate) fn parse_reference(field: &str, key: &str) -> Result<Locator, ConfigError> {
    Locator::parse(key).map_err(|error| wrong(field, key, &error))
}

fn wrong(field: &str, value: &str, error: &ParseError) -> ConfigError {
    let shown = if matches!(error, ParseError::Secret) { "(not shown)" } else { value };
    let mistake = ConfigError::new(field, shown, error.to_string());
    match error {
        ParseError::Invalid(_) | ParseError::Secret => mistake,
        ParseError::Unsupported(_) => mistake.unsupported(),
    }
}
