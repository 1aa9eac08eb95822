//! URLs of a configuration.

use url::Url;

use crate::config::ConfigError;

/// Parses the URL `text` of `field`. A password in it has its place in `elsewhere`; none is shown.
///
/// # Errors
/// It holds user information; or it is no URL, for which `otherwise` says what to write.
pub(crate) fn parse_url(
    field: &str,
    text: &str,
    elsewhere: &str,
    otherwise: &str,
) -> Result<Url, ConfigError> {
    let shown = shown(text);
    let hides_it = |url: &Url| url.cannot_be_a_base() && shown != text;
    let parsed = Url::parse(text).ok().filter(|url| !hides_it(url));
    let url = parsed.ok_or_else(|| ConfigError::new(field, shown, otherwise))?;
    if url.username().is_empty() && url.password().is_none() {
        return Ok(url);
    }
    let reason = format!("it holds user information; keep that in {elsewhere}");
    Err(ConfigError::new(field, url.host_str().unwrap_or_default(), reason))
}

/// What may be shown of a text that is to be a URL, whatever it is: what may be a password stands
/// before an `@`.
pub(crate) fn shown(text: &str) -> &str {
    text.rsplit_once('@').map_or(text, |(_, behind)| behind)
}

#[cfg(test)]
mod tests {
    use super::parse_url;

    #[test]
    fn a_password_is_never_shown() {
        for text in [
            "https://user:sesame@a.example",
            "https://sesame@a.example",
            "https://user:sesame@a.example:99999",
            "https://user:sesame@",
            "https://user:sesame@a b",
            "user:sesame@a.example:1",
            "//user:ses@me@a.example",
        ] {
            let error = parse_url("upstream", text, "`elsewhere`", "it is not a URL").unwrap_err();
            assert!(!format!("{error} {error:?}").contains("ses"), "{error}");
        }
        let url = parse_url("upstream", "https://a.example/@b", "`elsewhere`", "no URL").unwrap();
        assert_eq!(url.path(), "/@b");
    }
}
