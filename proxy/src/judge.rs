//! What a proxy would say of a host or an endpoint, without a proxy: answered by the code that
//! judges requests, from the same rules.

use std::sync::Arc;

use http::Method;
use smol_str::SmolStr;

use crate::config::{ConfigError, ProxyConfig, Settings};
use crate::error::Refusal;
use crate::exchange::Way;
use crate::headers::overrides_method;
use crate::layers::{allow, respond, route};
use crate::target::{Target, parse_host};

/// Answers questions about a configuration.
///
/// Judged are names, addresses, paths and methods. What a name resolves to, and whether a
/// credential can be had, is known only when a request comes.
#[derive(Debug)]
pub struct Judge {
    settings: Settings,
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The code that a client would be refused with; `None` if the request would pass.
    pub refusal: Option<&'static str>,
    /// The rule that decides, as it was written.
    pub rule: Option<SmolStr>,
    /// The route that the request would take, or that has the host for itself.
    pub route: Option<SmolStr>,
}

impl Judge {
    /// A judge by the rules of `config`.
    ///
    /// # Errors
    /// The first mistake, by field and value.
    pub fn new(config: &ProxyConfig) -> Result<Self, ConfigError> {
        Ok(Self { settings: Settings::parse(config)? })
    }

    /// Whether a client may open a tunnel to a host and port. So it may have a plain request forwarded
    /// there, but not to the upstream of a route whose tunnels are intercepted. `None` if the text
    /// is no host.
    pub fn host(&self, host: &str, port: u16) -> Option<Verdict> {
        let target = Target::new(parse_host(host)?, port);
        if route::intercepts(&self.settings, &target) {
            return Some(self.way(&Way::Intercept(target), None));
        }
        if let Some(owner) = self.settings.routes.owner(&target) {
            return Some(Verdict {
                refusal: Some(respond::code(Refusal::RouteOnly)),
                rule: None,
                route: Some(owner.clone()),
            });
        }
        Some(self.way(&Way::Tunnel(target), None))
    }

    /// Whether a request may go through a route. `path` is that of the proxy, with the route's
    /// prefix, and may have a query. `None` if `method` is none.
    pub fn endpoint(&self, method: &str, path: &str) -> Option<Verdict> {
        let method = Method::from_bytes(method.as_bytes()).ok()?;
        let refuse = |refusal, route| {
            Some(Verdict { refusal: Some(respond::code(refusal)), rule: None, route })
        };
        // `CONNECT` has no path.
        if [Method::TRACE, Method::CONNECT].contains(&method) {
            return refuse(Refusal::Method, None);
        }
        let whole = path.split('#').next().unwrap_or_default();
        let (path, query) = whole.split_once('?').unwrap_or((whole, ""));
        let Some((found, rest)) = self.settings.routes.find(path) else {
            return refuse(Refusal::NoRoute, None);
        };
        let route = Some(found.id.clone());
        if found.has_rules() && overrides_method(query) {
            return refuse(Refusal::MethodOverride, route);
        }
        Some(match found.path(&method, rest) {
            Ok((_, rule)) => Verdict { route, ..self.way(&Way::Route(Arc::clone(found)), rule) },
            Err(refusal) => return refuse(route::refusal(refusal), route),
        })
    }

    fn way(&self, way: &Way, rule: Option<&SmolStr>) -> Verdict {
        let (judged, decisive) = allow::judge(&self.settings, self.settings.bind, way);
        Verdict {
            refusal: judged.err().map(respond::code),
            rule: decisive.and_then(|found| found.rule).or(rule).cloned(),
            route: None,
        }
    }
}
