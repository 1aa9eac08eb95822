//! Routes: path prefixes that lead to upstreams.

mod credential;
mod endpoints;

use std::cmp::Reverse;
use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt as _};
use http::{Method, Request};
use nono_credentials::Credential;
use smol_str::SmolStr;

use crate::address::{Class, Reach, class_by_name};
use crate::config::{ConfigError, RouteConfig};
use crate::environment::Variable;
use crate::error::Refusal;
use crate::location::parse_url;
use crate::target::{Scheme, Target, parse_host};
use crate::tls::Tls;
use crate::upstream::End;
use crate::{environment, path, tls};

pub(crate) use credential::{parse_further, parse_reference};
pub(crate) use endpoints::EndpointRules;

/// A path prefix, the upstream it leads to, and the credential put on the way.
pub(crate) struct Route {
    /// The prefix without slashes around it: the route's name in records and messages.
    pub(crate) id: SmolStr,
    /// Its place in its table.
    pub(crate) number: usize,
    pub(crate) target: Target,
    /// The target's host, as records name it.
    pub(crate) host: SmolStr,
    pub(crate) reach: Reach,
    /// The upstream URL's path without the slash at its end; empty for most.
    base: String,
    pub(crate) credential: Option<Credential>,
    /// Whether a credential of the client's own is removed rather than refused or passed on.
    pub(crate) strips_credentials: bool,
    /// Whether the credential is taken out of bodies that echo it.
    pub(crate) scrubs_bodies: bool,
    /// The variables that lead clients here.
    pub(crate) variables: Vec<Variable>,
    rules: EndpointRules,
    /// How to speak TLS to the upstream; `None` for plain http.
    pub(crate) tls: Option<Tls>,
    /// What the upstream is called in requests to it.
    pub(crate) end: End,
}

/// Why a path may not pass a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PathRefusal {
    /// It can be read in more than one way.
    Ambiguous(&'static str),
    /// No endpoint rule allows it.
    NoRule,
}

impl Route {
    /// Parses and judges a route, reading its TLS files.
    pub(crate) fn parse(config: &RouteConfig) -> Result<Self, ConfigError> {
        let id = parse_prefix(&config.prefix)?;
        let (scheme, target, base) = parse_upstream(&config.upstream)?;
        let reach = reach(scheme, &target)
            .map_err(|reason| ConfigError::new("upstream", &config.upstream, reason))?;
        let credential = credential::parse(config)?;
        Ok(Self {
            variables: environment::route_names(id, config, credential.as_ref())?,
            rules: EndpointRules::parse(&plain(&config.endpoint_rules))?,
            tls: tls::client_config(config, scheme)?,
            id: id.into(),
            number: 0,
            end: End::new(scheme, &target)
                .map_err(|reason| ConfigError::new("upstream", &config.upstream, reason))?,
            host: target.host().to_string().into(),
            target,
            reach,
            base,
            credential,
            strips_credentials: config.strip_client_credentials,
            scrubs_bodies: config.scrub_bodies,
        })
    }

    /// The path to ask the upstream for, in two parts, when the client asked for `rest` below the
    /// prefix; with the endpoint rule that allows it, if there are rules.
    ///
    /// # Errors
    /// Why the path may not pass. What is judged is byte for byte what is returned.
    pub(crate) fn path<'a>(
        &'a self,
        method: &Method,
        rest: &'a str,
    ) -> Result<([&'a str; 2], Option<&'a SmolStr>), PathRefusal> {
        let rest = if rest.is_empty() { "/" } else { rest };
        let governed = self.has_rules() || !self.base.is_empty();
        if governed && let Some(reason) = path::ambiguity(rest) {
            return Err(PathRefusal::Ambiguous(reason));
        }
        let path = [&*self.base, rest];
        if !self.has_rules() {
            return Ok((path, None));
        }
        let plain = path::plain(rest);
        let rule = self.rules.allow(method, &plain).ok_or(PathRefusal::NoRule)?;
        if !plain.contains(';') {
            return Ok((path, Some(rule)));
        }
        // A rule that names parameters is meant for whoever reads them.
        let named = || self.rules.allow_by(method, &plain, |rule| rule.contains(';'));
        let shorter = self.rules.allow(method, &path::without_parameters(&plain)).map(|_| rule);
        let none = PathRefusal::Ambiguous("no rule allows it without its `;` parameters");
        Ok((path, Some(shorter.or_else(named).ok_or(none)?)))
    }

    /// What follows the upstream's base path in `path`; `None` if it is not below it.
    fn below_base<'path>(&self, path: &'path str) -> Option<&'path str> {
        path.strip_prefix(&*self.base).filter(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Whether endpoint rules say which requests may pass.
    pub(crate) fn has_rules(&self) -> bool {
        !self.rules.is_empty()
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route")
            .field("id", &self.id)
            .field("target", &self.target)
            .field("credential", &self.credential)
            .finish_non_exhaustive()
    }
}

/// All routes, by prefix.
#[derive(Debug)]
pub(crate) struct RouteTable {
    by_prefix: HashMap<SmolStr, Arc<Route>>,
    /// The routes to each target, those with the longest base paths first.
    by_target: HashMap<Target, Vec<Arc<Route>>>,
    /// The most segments that any prefix has.
    depth: usize,
}

impl RouteTable {
    /// A table of `routes`; prefixes and variable names must be unique.
    pub(crate) fn new(routes: Vec<Route>) -> Result<Self, ConfigError> {
        let mut prefixes = HashSet::new();
        if let Some(twin) = routes.iter().find(|route| !prefixes.insert(&route.id)) {
            return Err(ConfigError::new("prefix", &*twin.id, "two routes have it"));
        }
        environment::check_names(&routes)?;
        let mut table = Self { by_prefix: HashMap::new(), by_target: HashMap::new(), depth: 0 };
        for (number, mut route) in routes.into_iter().enumerate() {
            route.number = number;
            table.depth = table.depth.max(route.id.split('/').count());
            let route = Arc::new(route);
            table.by_target.entry(route.target.clone()).or_default().push(Arc::clone(&route));
            table.by_prefix.insert(route.id.clone(), route);
        }
        for routes in table.by_target.values_mut() {
            routes.sort_by_key(|route| Reverse(route.base.len()));
        }
        Ok(table)
    }

    /// The route with the longest prefix of `path`, and what follows the prefix.
    pub(crate) fn find<'path>(&self, path: &'path str) -> Option<(&Arc<Route>, &'path str)> {
        let path = path.strip_prefix('/')?;
        let slashes = memchr::memchr_iter(b'/', path.as_bytes());
        let ends = slashes.chain([path.len()]).take(self.depth);
        let found = ends.filter_map(|end| {
            let (prefix, rest) = path.split_at_checked(end)?;
            Some((self.by_prefix.get(prefix)?, rest))
        });
        found.last()
    }

    /// The route whose upstream `target` is; the first of them, if there are more.
    pub(crate) fn owner(&self, target: &Target) -> Option<&SmolStr> {
        self.by_target.get(target)?.first().map(|route| &route.id)
    }

    /// The routes that lead to `target` over TLS, those with the longest base paths first.
    pub(crate) fn over_tls(&self, target: &Target) -> impl Iterator<Item = &Arc<Route>> {
        let routes = self.by_target.get(target).into_iter().flatten();
        routes.filter(|route| route.tls.is_some())
    }

    /// The route for a request that came inside a tunnel to `target`, and what follows the
    /// route's base path; `None` when no route leads there. Of routes with the same base path
    /// the one is meant whose rules allow the request.
    ///
    /// # Errors
    /// No route covers the path, or more than one does alike.
    pub(crate) fn find_inside<'request, B>(
        &self,
        target: &Target,
        request: &'request Request<B>,
    ) -> Result<Option<(&Arc<Route>, &'request str)>, Refusal> {
        if self.over_tls(target).next().is_none() {
            return Ok(None);
        }
        let path = request.uri().path();
        let covering = || self.over_tls(target).filter_map(|r| Some((r, r.below_base(path)?)));
        let (first, rest) = covering().next().ok_or(Refusal::NoRouteInside)?;
        let alike: Vec<_> =
            covering().filter(|(route, _)| route.base.len() == first.base.len()).collect();
        let allows = |route: &Route| route.path(request.method(), rest).is_ok();
        let mut allowing = alike.iter().filter(|(route, _)| allows(route));
        match (allowing.next(), allowing.next()) {
            (Some(_), Some(_)) => Err(Refusal::AmbiguousRoute),
            (Some(only), None) => Ok(Some(*only)),
            // Its rules say why not.
            (None, _) => Ok(Some((first, rest))),
        }
    }

    /// All routes, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.by_prefix.values()
    }
}

/// Rules whose paths are written as those are that they are matched against.
fn plain(rules: &[(String, String)]) -> Vec<(String, String)> {
    let plain = |glob| path::plain(glob).into_owned();
    rules.iter().map(|(method, glob)| (method.clone(), plain(glob))).collect()
}

fn parse_prefix(text: &str) -> Result<&str, ConfigError> {
    let wrong = |reason: &str| Err(ConfigError::new("prefix", text, reason));
    let id = text.trim_matches('/');
    if id.is_empty() {
        return wrong("it must have at least one path segment, like `/openai`");
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~');
    for segment in id.split('/') {
        if segment.is_empty() || matches!(segment, "." | "..") || !segment.chars().all(plain) {
            return wrong("its segments may hold letters, digits, `-`, `_`, `.` and `~`");
        }
    }
    Ok(id)
}

fn parse_upstream(text: &str) -> Result<(Scheme, Target, String), ConfigError> {
    let wrong = |reason: &str| ConfigError::new("upstream", text, reason);
    if text.is_empty() {
        return Err(wrong("it is missing: a route needs the URL of what it leads to"));
    }
    let url = parse_url("upstream", text, "`credential_key`", "it is not a URL")?;
    let scheme = match url.scheme() {
        "https" => Scheme::Https,
        "http" => Scheme::Http,
        _ => {
            return Err(wrong("it must be an https (or, on a private network, http) URL"));
        }
    };
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it may have a path, but no query and no fragment"));
    }
    let host = url.host_str().and_then(parse_host).ok_or_else(|| wrong("it has no host"))?;
    let port = url.port().unwrap_or_else(|| scheme.default_port());
    let base = url.path().trim_end_matches('/').to_owned();
    if let Some(reason) = path::ambiguity(&base) {
        return Err(wrong(&format!("its path is ambiguous: {reason}")));
    }
    Ok((scheme, Target::new(host, port), base))
}

/// Which addresses a route's upstream may have.
fn reach(scheme: Scheme, target: &Target) -> Result<Reach, &'static str> {
    match (scheme, class_by_name(target.host())) {
        (_, Some(Class::Forbidden)) => Err("its host is never reachable, whatever allows it"),
        (Scheme::Http, Some(Class::Public)) => {
            Err("plain http would send the credential unprotected; use https")
        }
        (Scheme::Http, _) => Ok(Reach::PrivateOnly),
        (Scheme::Https, _) => Ok(Reach::Named),
    }
}

/// For messages: how a path is shown that a file is read from.
pub(crate) fn show(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
#[path = "route/tests.rs"]
mod tests;
