//! OAuth 2.0 (RFC 6749): an access token for client credentials (§4.4) or a refresh token (§6).

mod answer;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request};
use http_body_util::Full;
use serde_json::Value;
use tokio::sync::Mutex as Turn;
use tokio::time::timeout;
use url::Url;

use self::answer::{access, copied, is_code, text};
use super::web::Server;
use super::{Fault, Fetched, Fetching, Inquiry, Source, json, open};
use crate::injection::{basic, escape, header_value};
use crate::{Locator, ParseError, Secret, SecretBuf};

/// How long an answer to a refresh token is waited for that nobody else waits for any more: there may
/// be another token in it, in whose place the one that was sent is no longer good.
const LATEST: Duration = Duration::from_mins(2);

/// Where tokens come from, and by which right. Plain data.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct OAuth2Config {
    /// The token endpoint: an https URL; plain http only on this machine.
    pub token_url: String,
    /// The client's name, or a credential reference (`env://…`) to where it is kept.
    pub client_id: String,
    /// Where the client's secret is kept: a credential reference. Public clients have none.
    pub client_secret: Option<String>,
    /// Where a refresh token is kept: a credential reference. Without one the client's own
    /// credentials are the grant. If the issuer replaces it, the new one is in memory, and is used
    /// until the issuer refuses it or another one is kept there.
    pub refresh_token: Option<String>,
    /// What the token is to be for, in the issuer's words.
    pub scope: Option<String>,
    /// Further parameters of the request: an `audience`.
    pub extra_params: Vec<(String, String)>,
    /// Whether the client's secret goes into the body (`client_secret_post`) and not into
    /// `Authorization` (`client_secret_basic`), which every issuer must take (§2.3.1).
    pub secret_in_body: bool,
    /// A file of certificates in PEM: authorities that the issuer is trusted by, besides the
    /// system's.
    pub tls_ca: Option<PathBuf>,
}

/// The parsed form.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Grant {
    issuer: Server,
    client_id: Identifier,
    client_secret: Option<Box<Locator>>,
    refresh_token: Option<Box<Locator>>,
    parameters: Vec<(String, String)>,
    secret_in_body: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Identifier {
    Plain(String),
    Kept(Box<Locator>),
}

impl Grant {
    /// Judges `config`.
    pub(crate) fn parse(config: &OAuth2Config) -> Result<Self, ParseError> {
        let invalid = |reason: &str| Err(ParseError::Invalid(reason.into()));
        let locate = |text: &Option<String>| {
            text.as_deref().map(Locator::parse).transpose().map(|found| found.map(Box::new))
        };
        let client_secret = locate(&config.client_secret)?;
        let refresh_token = locate(&config.refresh_token)?;
        if config.client_id.is_empty() {
            return invalid("`client_id` is missing");
        }
        if client_secret.is_none() && refresh_token.is_none() {
            return invalid(
                "it needs `client_secret` or `refresh_token`: a right to get a token by",
            );
        }
        if client_secret.is_none() && config.secret_in_body {
            return invalid("there is no `client_secret` that could go into the body");
        }
        let reserved = ["grant_type", "client_id", "client_secret", "refresh_token", "scope"];
        if let Some((name, _)) =
            config.extra_params.iter().find(|(name, _)| reserved.contains(&&**name))
        {
            return invalid(&format!("`extra_params` must not set `{name}`"));
        }
        let mut parameters = config.extra_params.clone();
        parameters.extend(config.scope.iter().map(|scope| ("scope".into(), scope.clone())));
        let client_id = if config.client_id.contains("://") {
            Identifier::Kept(Locator::parse(&config.client_id)?.into())
        } else {
            Identifier::Plain(config.client_id.clone())
        };
        let issuer = Server::parse(&config.token_url, config.tls_ca.as_deref())?;
        let secret_in_body = config.secret_in_body;
        Ok(Self { issuer, client_id, client_secret, refresh_token, parameters, secret_in_body })
    }

    /// The token endpoint, for messages.
    pub(crate) fn endpoint(&self) -> &Url {
        &self.issuer.url
    }
}

/// A grant in use.
pub(super) struct Issuer(Arc<Use>);

struct Use {
    grant: Grant,
    renewed: Mutex<Option<Renewed>>,
    /// Held while a refresh token is with the issuer.
    turn: Arc<Turn<()>>,
}

/// The refresh token that the issuer gave last.
#[derive(Clone)]
struct Renewed {
    token: Arc<Secret>,
    /// The one that was kept then, in whose place it is used.
    kept: Arc<Secret>,
}

/// What an issuer gave.
struct Granted {
    /// What the refresh token is the price of, and may be of no use.
    access: Result<Fetched, Fault>,
    refresh: Option<Secret>,
}

/// Why it gave nothing.
enum Refusal {
    /// It does not take the refresh token: `invalid_grant` (RFC 6749 §5.2).
    Grant(Fault),
    Other(Fault),
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Other(fault)
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Grant(fault) | Refusal::Other(fault) => fault,
        }
    }
}

impl Issuer {
    pub(super) fn new(grant: Grant) -> Self {
        Self(Arc::new(Use { grant, renewed: Mutex::default(), turn: Arc::default() }))
    }
}

impl Source for Issuer {
    fn fetch<'a>(&'a self, inquiry: &'a Inquiry) -> Fetching<'a> {
        Box::pin(async move {
            let asking = timeout(inquiry.limit(), self.ask(inquiry));
            asking.await.unwrap_or(Err(Fault::TimedOut))
        })
    }
}

impl Issuer {
    async fn ask(&self, inquiry: &Inquiry) -> Result<Fetched, Fault> {
        let Some(locator) = self.0.grant.refresh_token.clone() else {
            return self.0.send(None, inquiry).await?.access;
        };
        // One after the other: an issuer that is shown the same token twice may think it stolen.
        let turn = Arc::clone(&self.0.turn).lock_owned().await;
        // By itself: what the issuer has taken a token for counts, also when nobody waits any more.
        let (this, inquiry) = (Arc::clone(&self.0), inquiry.clone());
        let asking = tokio::spawn(async move {
            let _turn = turn;
            let latest = LATEST.max(inquiry.limit());
            timeout(latest, this.by_refresh_token(&locator, &inquiry)).await
        });
        match asking.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Fault::TimedOut),
            Err(_) => Err(Fault::Unavailable("its source failed".into())),
        }
    }
}

impl Use {
    async fn by_refresh_token(
        &self,
        locator: &Locator,
        inquiry: &Inquiry,
    ) -> Result<Fetched, Fault> {
        let kept = fetch(locator, inquiry).await;
        if let Some(Renewed { token, kept }) = self.renewed(kept.as_ref().ok()) {
            match self.refresh(&token, kept, inquiry).await {
                // Whoever logged in anew may have got the one that is kept back.
                Err(Refusal::Grant(_)) => *self.lock() = None,
                answer => return Ok(answer?),
            }
        }
        let kept = Arc::new(kept?);
        Ok(self.refresh(&Arc::clone(&kept), kept, inquiry).await?)
    }

    /// The refresh token to be used in place of the one that is kept now, or that cannot be had.
    fn renewed(&self, kept: Option<&Secret>) -> Option<Renewed> {
        let stands_for =
            |renewed: &Renewed| kept.is_none_or(|kept| kept.expose() == renewed.kept.expose());
        self.lock().clone().filter(stands_for)
    }

    /// An access token for the refresh token `token`; the one that comes with it, if one does, is
    /// used from then on in place of `kept`.
    async fn refresh(
        &self,
        token: &Secret,
        kept: Arc<Secret>,
        inquiry: &Inquiry,
    ) -> Result<Fetched, Refusal> {
        let granted = self.send(Some(token), inquiry).await?;
        // First, whatever else is in the answer: the one that was sent may be spent.
        if let Some(token) = granted.refresh {
            *self.lock() = Some(Renewed { token: Arc::new(token), kept });
        }
        Ok(granted.access?)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Renewed>> {
        self.renewed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, refresh: Option<&Secret>, inquiry: &Inquiry) -> Result<Granted, Refusal> {
        let asked = Instant::now();
        let request = self.request(refresh, inquiry).await?;
        let answer = self.grant.issuer.send(request, inquiry).await?;
        let document = json::Document::parse(&answer.body);
        let root = document.as_ref().map_or(&Value::Null, json::Document::root);
        let text = |name: &str| text(root, name);
        if !answer.status.is_success() {
            // The code alone: a description may quote what was sent.
            let code = text("error").filter(|code| is_code(code)).unwrap_or("no reason");
            let what = format!("the issuer refused, with {} and `{code}`", answer.status);
            let fault = Fault::Unavailable(what);
            let is_grant = code == "invalid_grant";
            return Err(if is_grant { Refusal::Grant(fault) } else { fault.into() });
        }
        let refresh = text("refresh_token").map(copied);
        Ok(Granted { access: access(root, asked), refresh })
    }

    async fn request(
        &self,
        refresh: Option<&Secret>,
        inquiry: &Inquiry,
    ) -> Result<Request<Full<Bytes>>, Fault> {
        let Grant { client_secret, secret_in_body, .. } = &self.grant;
        let client_id = match &self.grant.client_id {
            Identifier::Plain(text) => Secret::copied(text.as_bytes()),
            Identifier::Kept(locator) => fetch(locator, inquiry).await?,
        };
        let client_secret = match client_secret {
            Some(locator) => Some(fetch(locator, inquiry).await?),
            None => None,
        };
        let mut form = Form::default();
        let kind = if refresh.is_some() { "refresh_token" } else { "client_credentials" };
        form.add("grant_type", &Secret::copied(kind.as_bytes()));
        if let Some(token) = refresh {
            form.add("refresh_token", token);
        }
        for (name, value) in &self.grant.parameters {
            form.add(name, &Secret::copied(value.as_bytes()));
        }
        let mut request = Request::post(self.grant.issuer.url.as_str())
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        match &client_secret {
            Some(secret) if !secret_in_body => {
                request = request.header(AUTHORIZATION, authorization(&client_id, secret)?);
            }
            secret => {
                form.add("client_id", &client_id);
                if let Some(secret) = secret {
                    form.add("client_secret", secret);
                }
            }
        }
        let request = request.body(Full::new(Bytes::from(form.0)));
        request.map_err(|_| Fault::Unavailable("its URL is not one".into()))
    }
}

async fn fetch(locator: &Locator, inquiry: &Inquiry) -> Result<Secret, Fault> {
    let fetched = open(locator).fetch(inquiry).await.map_err(|fault| fault.of(locator))?;
    Ok(fetched.secret)
}

/// A form with secrets in it.
#[derive(Default)]
struct Form(SecretBuf);

impl Form {
    fn add(&mut self, name: &str, value: &Secret) {
        let (name, value) = (escape(&Secret::copied(name.as_bytes())), escape(value));
        let separator: &[u8] = if self.0.is_empty() { b"" } else { b"&" };
        for part in [separator, name.expose(), b"=", value.expose()] {
            self.0.extend_from_slice(part);
        }
    }
}

/// The client's credentials, each encoded by itself first (RFC 6749 §2.3.1).
fn authorization(id: &Secret, secret: &Secret) -> Result<HeaderValue, Fault> {
    let (id, secret) = (escape(id), escape(secret));
    let pair = SecretBuf::concat(&[id.expose(), b":", secret.expose()]);
    let value = basic(&pair).and_then(header_value);
    value.map_err(|reason| Fault::Unavailable(reason.into()))
}
