//! Routes to well-known APIs: where each one is, which header its key goes into, and what its
//! clients call the variables that lead them there.

use crate::config::{ConfigError, RouteConfig};

/// One API.
struct Preset {
    name: &'static str,
    /// With the base path that the API's clients leave to the base URL, and no more. Empty where
    /// every account has an address of its own.
    upstream: &'static str,
    header: &'static str,
    base_url_vars: &'static [&'static str],
    key_vars: &'static [&'static str],
}

#[rustfmt::skip]
const PRESETS: [Preset; 8] = [
    Preset {
        name: "openai",
        upstream: "https://api.openai.com/v1",
        header: "Authorization",
        base_url_vars: &["OPENAI_BASE_URL", "OPENAI_API_BASE"],
        key_vars: &["OPENAI_API_KEY"],
    },
    Preset {
        name: "anthropic",
        upstream: "https://api.anthropic.com",
        header: "x-api-key",
        base_url_vars: &["ANTHROPIC_BASE_URL"],
        // Not ANTHROPIC_AUTH_TOKEN too: with both set, clients complain or choose.
        key_vars: &["ANTHROPIC_API_KEY"],
    },
    Preset {
        name: "gemini",
        upstream: "https://generativelanguage.googleapis.com",
        header: "x-goog-api-key",
        base_url_vars: &["GOOGLE_GEMINI_BASE_URL"],
        key_vars: &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
    },
    Preset {
        name: "azure-openai",
        upstream: "",
        header: "api-key",
        base_url_vars: &["AZURE_OPENAI_ENDPOINT"],
        key_vars: &["AZURE_OPENAI_API_KEY"],
    },
    Preset {
        name: "mistral",
        upstream: "https://api.mistral.ai/v1",
        header: "Authorization",
        base_url_vars: &["MISTRAL_BASE_URL"],
        key_vars: &["MISTRAL_API_KEY"],
    },
    Preset {
        name: "groq",
        // Its SDK puts /openai/v1 into every path itself.
        upstream: "https://api.groq.com",
        header: "Authorization",
        base_url_vars: &["GROQ_BASE_URL"],
        key_vars: &["GROQ_API_KEY"],
    },
    Preset {
        name: "openrouter",
        upstream: "https://openrouter.ai/api/v1",
        header: "Authorization",
        base_url_vars: &["OPENROUTER_BASE_URL", "OPENROUTER_API_BASE"],
        key_vars: &["OPENROUTER_API_KEY"],
    },
    Preset {
        name: "github",
        upstream: "https://api.github.com",
        header: "Authorization",
        base_url_vars: &["GITHUB_API_URL"],
        key_vars: &["GITHUB_TOKEN", "GH_TOKEN"],
    },
];

/// The names of all presets.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|preset| preset.name)
}

/// The route of preset `name`, without a credential.
///
/// # Errors
/// There is no such preset; the reason lists those there are.
pub(crate) fn find(name: &str) -> Result<RouteConfig, ConfigError> {
    let preset = PRESETS.iter().find(|preset| preset.name == name).ok_or_else(|| {
        let known = names().collect::<Vec<_>>().join(", ");
        ConfigError::new("preset", name, format!("there is none of this name; known are {known}"))
    })?;
    let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    Ok(RouteConfig {
        prefix: format!("/{}", preset.name),
        upstream: preset.upstream.into(),
        inject_header: preset.header.into(),
        base_url_vars: owned(preset.base_url_vars),
        key_vars: owned(preset.key_vars),
        ..RouteConfig::default()
    })
}

#[cfg(test)]
mod tests {
    use super::{find, names};

    #[test]
    fn every_preset_is_a_route_once_it_has_its_credential_and_upstream() {
        for name in names() {
            let mut route = find(name).unwrap();
            route.credential_key = Some("env://KEY".into());
            if name == "azure-openai" {
                assert_eq!(route.check().unwrap_err().field(), "upstream");
                route.upstream = "https://mine.openai.azure.com".into();
            }
            assert_eq!(route.check(), Ok(()), "{name}");
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let error = find("opnai").unwrap_err().to_string();
        assert!(error.contains("\"opnai\""), "{error}");
        assert!(names().all(|name| error.contains(name)), "{error}");
    }
}
