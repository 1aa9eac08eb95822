//! Judges the host at the end of the way: may it be reached, and with which addresses?
//!
//! A literal address is judged here; a name's addresses are, after resolution, in
//! `upstream/resolver.rs`. No query for a name leaves before the name was allowed.

use std::sync::Arc;

use nono_audit::Recorder;
use url::Host;

use crate::address::{Class, OutOfReach, Reach, classify, is_metadata_name};
use crate::allowlist::Match;
use crate::error::{Error, Refusal};
use crate::exchange::{Exchange, Permitted, Routed, Way};
use crate::layers::Step;
use crate::stack::Shared;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Allow(pub(crate) Arc<Shared>);

impl Step<Routed> for Allow {
    type To = Permitted;

    fn step(&self, exchange: Exchange<Routed>) -> Result<Exchange<Permitted>, Error> {
        let reach = self.judge(&exchange.stage.way, &exchange.recorder)?;
        Ok(exchange.advance(|Routed { way }| Permitted { way, reach }))
    }
}

impl Allow {
    fn judge(&self, way: &Way, recorder: &Recorder) -> Result<Reach, Refusal> {
        let Shared { settings, addr, .. } = &*self.0;
        let target = way.target();
        if target.is_listener(*addr) {
            return Err(Refusal::OwnListener);
        }
        if let Some(denied) = settings.denied.matches(target) {
            note(recorder, denied);
            return Err(Refusal::HostDenied);
        }
        let class = match target.host() {
            Host::Domain(name) => is_metadata_name(name).then_some(Class::Forbidden),
            Host::Ipv4(ip) => Some(classify((*ip).into())),
            Host::Ipv6(ip) => Some(classify((*ip).into())),
        };
        // Before the rules, since no rule would help.
        if class == Some(Class::Forbidden) {
            return Err(Refusal::Address(OutOfReach::Always));
        }
        // A route opens its upstream, but to itself alone.
        let reach = match way {
            Way::Route(route) => Some(route.reach),
            // Ends here, and leads to the routes alone.
            Way::Intercept(target) if settings.routes.owner(target).is_some() => Some(Reach::Named),
            Way::Tunnel(target)
            | Way::Forward(target)
            | Way::Intercept(target)
            | Way::Secure(target, _) => {
                let allowed = settings.allowlist.matches(target);
                allowed.inspect(|allowed| note(recorder, *allowed)).map(|allowed| allowed.reach)
            }
        };
        let reach = reach.ok_or(Refusal::HostNotAllowed)?;
        match class {
            Some(class) => reach.check(class).map(|()| reach).map_err(Refusal::Address),
            None => Ok(reach),
        }
    }
}

/// Notes the rule that decides.
fn note(recorder: &Recorder, found: Match<'_>) {
    recorder.note(|record| record.rule = found.rule.cloned());
}
