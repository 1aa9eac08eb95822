//! `vault://mount/path#field`: a field of a secret in Vault's KV store (also `OpenBao`'s),
//! version 2, over HTTP: `GET /v1/{mount}/data/{path}`.

use std::path::PathBuf;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::Full;
use serde_json::Value;
use tokio::time::timeout;

use super::web::Server;
use super::{Fault, Fetched, Fetching, Inquiry, Source, json, open};
use crate::{Locator, ParseError, Secret};

/// The Vault server that `vault://` references are of. Plain data.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VaultConfig {
    /// Its URL: `https://vault.example:8200`; plain http only on this machine.
    pub address: String,
    /// Where the token is kept that it is asked with: a credential reference.
    pub token_key: String,
    /// The namespace of the secret, where the server has them.
    pub namespace: Option<String>,
    /// A file of certificates in PEM: authorities that the server is trusted by, besides the
    /// system's.
    pub tls_ca: Option<PathBuf>,
}

/// A field of a secret in a server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VaultField {
    server: Server,
    namespace: Option<String>,
    token: Box<Locator>,
    field: String,
    /// How it is written.
    reference: String,
}

impl VaultField {
    /// Parses what follows `vault://`.
    pub(crate) fn parse(rest: &str, config: Option<&VaultConfig>) -> Result<Self, ParseError> {
        let invalid = |reason: &str| Err(ParseError::Invalid(reason.into()));
        let form = "`vault://` needs the form vault://mount/path#field";
        let Some((path, field)) = rest.split_once('#') else { return invalid(form) };
        let Some((mount, path)) = path.split_once('/') else { return invalid(form) };
        let fits = |text: &str| {
            let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '%' | '\\');
            !text.is_empty()
                && text.chars().all(plain)
                && text.split('/').all(|s| !matches!(s, "" | "." | ".."))
        };
        if !fits(mount) || !fits(path) || field.is_empty() || field.contains(char::is_control) {
            return invalid(form);
        }
        let Some(config) = config else {
            return invalid(
                "`vault://` needs `vault`: the server's address and where its token is",
            );
        };
        let mut server = Server::parse(&config.address, config.tls_ca.as_deref())?;
        let base = server.url.path().trim_end_matches('/').to_owned();
        server.url.set_path(&format!("{base}/v1/{mount}/data/{path}"));
        if let Some(namespace) = &config.namespace
            && HeaderValue::from_str(namespace).is_err()
        {
            return invalid("the namespace holds a character that no header may hold");
        }
        let token = Locator::parse(&config.token_key)?;
        let (namespace, reference) = (config.namespace.clone(), format!("vault://{rest}"));
        Ok(Self { server, namespace, token: token.into(), field: field.into(), reference })
    }

    /// How it is written.
    pub(crate) fn reference(&self) -> &str {
        &self.reference
    }
}

impl Source for VaultField {
    fn fetch<'a>(&'a self, inquiry: &'a Inquiry) -> Fetching<'a> {
        Box::pin(async move {
            let asking = timeout(inquiry.limit(), self.ask(inquiry));
            asking.await.unwrap_or(Err(Fault::TimedOut))
        })
    }
}

impl VaultField {
    async fn ask(&self, inquiry: &Inquiry) -> Result<Fetched, Fault> {
        let token =
            open(&self.token).fetch(inquiry).await.map_err(|fault| fault.of(&self.token))?;
        let mut request = Request::get(self.server.url.as_str())
            .header(
                "x-vault-token",
                token.secret.to_header_value().map_err(|reason| {
                    Fault::Unavailable(format!(
                        "its token at `{}` cannot be sent: {reason}",
                        self.token
                    ))
                })?,
            )
            .header("x-vault-request", "true");
        if let Some(namespace) = &self.namespace {
            request = request.header("x-vault-namespace", namespace);
        }
        let request = request.body(Full::<Bytes>::default());
        let request = request.map_err(|_| Fault::Unavailable("its URL is not one".into()))?;
        let answer = self.server.send(request, inquiry).await?;
        match answer.status {
            StatusCode::OK => self.field_of(&answer.body),
            StatusCode::NOT_FOUND => Err(Fault::Missing(format!(
                "Vault has no secret there; store it with: vault kv put {} {}=…",
                self.reference.trim_start_matches("vault://").split('#').next().unwrap_or_default(),
                self.field
            ))),
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => Err(Fault::Unavailable(format!(
                "Vault refuses the token at `{}`: it is wrong, has expired or may not read this",
                self.token
            ))),
            StatusCode::SERVICE_UNAVAILABLE => Err(Fault::Unavailable("Vault is sealed".into())),
            status => Err(Fault::Unavailable(format!("Vault answered {status}"))),
        }
    }

    fn field_of(&self, body: &[u8]) -> Result<Fetched, Fault> {
        let document = json::Document::parse(body)
            .ok_or_else(|| Fault::Unavailable("Vault's answer is not JSON".into()))?;
        let field = &self.field;
        match &document.root()["data"]["data"][&**field] {
            Value::String(value) if !value.is_empty() => {
                Ok(Secret::copied(value.as_bytes()).into())
            }
            Value::String(_) | Value::Null => {
                Err(Fault::Missing(format!("the secret in Vault has no field `{field}`")))
            }
            // A number may have been written in another way than it was meant.
            _ => Err(Fault::Unavailable(format!(
                "the field `{field}` in Vault is no text; store it as one: in JSON, in quotes"
            ))),
        }
    }
}
