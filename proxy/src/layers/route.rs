//! Finds the route that a path's prefix leads to, and rewrites the path to the upstream's.

use std::sync::Arc;

use http::{Request, Uri};
use nono_audit::{InjectionMode, Mode, Recorder};
use nono_credentials::{Credential, Injection};
use smol_str::SmolStr;

use crate::body::Body;
use crate::config::Settings;
use crate::error::{Error, Refusal};
use crate::exchange::{Addressed, Asked, Exchange, Routed, Way};
use crate::headers::{self, METHOD_OVERRIDES, is_among};
use crate::layers::Step;
use crate::layers::target::origin_form;
use crate::route::{PathRefusal, Route};
use crate::stack::Shared;
use crate::target::Target;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct FindRoute(pub(crate) Arc<Shared>);

impl Step<Addressed> for FindRoute {
    type To = Routed;

    fn step(&self, exchange: Exchange<Addressed>) -> Result<Exchange<Routed>, Error> {
        let Exchange { mut request, recorder, peer, place, stage } = exchange;
        let way = match stage.asked {
            Asked::Tunnel(target) if intercepts(&self.0.settings, &target) => {
                recorder.note(|record| record.mode = Mode::ConnectIntercept);
                Way::Intercept(target)
            }
            Asked::Tunnel(target) => {
                let target = self.open(target, &recorder)?;
                let outer = &self.0.settings.outer;
                if outer.as_ref().is_some_and(|outer| outer.covers(&target)) {
                    recorder.note(|record| record.mode = Mode::External);
                }
                Way::Tunnel(target)
            }
            Asked::Forward(target) => Way::Forward(self.open(target, &recorder)?),
            Asked::Path => Way::Route(self.follow(&mut request, &recorder)?),
            Asked::Inside(inside) => self.enter(&inside.target, &mut request, &recorder)?,
        };
        Ok(Exchange { request, recorder, peer, place, stage: Routed { way } })
    }
}

impl FindRoute {
    /// Refuses the upstream of a route to all who do not come through the route.
    fn open(&self, target: Target, recorder: &Recorder) -> Result<Target, Refusal> {
        match self.0.settings.routes.owner(&target) {
            None => Ok(target),
            Some(owner) => {
                recorder.note(|record| record.route_id = Some(owner.clone()));
                Err(Refusal::RouteOnly)
            }
        }
    }

    /// Finds the route of `request` and rewrites its path to the upstream's.
    fn follow(
        &self,
        request: &mut Request<Body>,
        recorder: &Recorder,
    ) -> Result<Arc<Route>, Refusal> {
        let found = self.0.settings.routes.find(request.uri().path());
        let (route, rest) = found.ok_or(Refusal::NoRoute)?;
        let (route, uri) = (Arc::clone(route), lead(route, rest, request, recorder)?);
        *request.uri_mut() = uri;
        Ok(route)
    }

    /// Finds the way of `request`, which came inside a tunnel to `target`. A host that has routes
    /// is reached through them alone.
    fn enter(
        &self,
        target: &Target,
        request: &mut Request<Body>,
        recorder: &Recorder,
    ) -> Result<Way, Refusal> {
        let Settings { intercept, routes, .. } = &self.0.settings;
        if let Some((route, rest)) = routes.find_inside(target, request)? {
            let (route, uri) = (Arc::clone(route), lead(route, rest, request, recorder)?);
            *request.uri_mut() = uri;
            return Ok(Way::Route(route));
        }
        let plan = intercept.as_ref().ok_or(Refusal::Misdirected)?;
        Ok(Way::Secure(target.clone(), Arc::clone(plan.tls())))
    }
}

/// Whether a tunnel to `target` ends here.
pub(crate) fn intercepts(settings: &Settings, target: &Target) -> bool {
    let Settings { intercept, routes, .. } = settings;
    intercept.as_ref().is_some_and(|plan| plan.covers(target, routes))
}

/// Where `route` leads `request` to, when `rest` is its path below the route's prefix or base.
fn lead(
    route: &Route,
    rest: &str,
    request: &Request<Body>,
    recorder: &Recorder,
) -> Result<Uri, Refusal> {
    let found = judge(route, request, rest);
    let rule = found.as_ref().ok().and_then(|(_, rule)| *rule);
    note(recorder, route, rule);
    origin_form(found?.0, request.uri().query())
}

/// The path to ask the upstream of `route` for, and the rule that allows it, if there are rules.
fn judge<'a>(
    route: &'a Route,
    request: &Request<Body>,
    rest: &'a str,
) -> Result<([&'a str; 2], Option<&'a SmolStr>), Refusal> {
    if route.has_rules() && overrides_method(request) {
        return Err(Refusal::MethodOverride);
    }
    route.path(request.method(), rest).map_err(refusal)
}

/// Whether servers may take `request` for one with another method than it has.
fn overrides_method(request: &Request<Body>) -> bool {
    request.headers().keys().any(|name| is_among(name, &METHOD_OVERRIDES))
        || request.uri().query().is_some_and(headers::overrides_method)
}

fn note(recorder: &Recorder, route: &Route, rule: Option<&SmolStr>) {
    recorder.note(|record| {
        record.rule = rule.cloned();
        record.target = route.host.clone();
        record.port = Some(route.target.port());
        record.route_id = Some(route.id.clone());
        record.injection_mode = route.credential.as_ref().map(injection_mode);
        record.managed_credential_active = Some(false);
    });
}

fn injection_mode(credential: &Credential) -> InjectionMode {
    match credential.injection() {
        Injection::Header { .. } => InjectionMode::Header,
        Injection::BasicAuth { .. } => InjectionMode::BasicAuth,
        Injection::QueryParam { .. } => InjectionMode::QueryParam,
        Injection::UrlPath { .. } => InjectionMode::UrlPath,
    }
}

/// How a client is refused whose path may not pass a route.
pub(crate) fn refusal(refusal: PathRefusal) -> Refusal {
    match refusal {
        PathRefusal::Ambiguous(reason) => Refusal::AmbiguousPath(reason),
        PathRefusal::NoRule => Refusal::NoEndpointRule,
    }
}
