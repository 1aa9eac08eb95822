//! Judges the host at the end of the way: may it be reached, and with which addresses?
//!
//! A literal address is judged here; a name's addresses are, after resolution, in
//! `upstream/resolver.rs`. No query for a name leaves before the name was allowed.

use std::net::SocketAddr;
use std::sync::Arc;

use nono_audit::Recorder;

use crate::address::{Class, OutOfReach, Reach, class_by_name};
use crate::allowlist::Match;
use crate::config::Settings;
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
        let Shared { settings, addr, .. } = &*self.0;
        let (judged, decisive) = judge(settings, *addr, &exchange.stage.way);
        if let Some(decisive) = decisive {
            note(&exchange.recorder, decisive);
        }
        let reach = judged?;
        Ok(exchange.advance(|Routed { way }| Permitted { way, reach }))
    }
}

/// Whether a way may be gone by a proxy that listens at `own`, to which addresses, and the rule that
/// decides.
pub(crate) fn judge<'rules>(
    settings: &'rules Settings,
    own: SocketAddr,
    way: &Way,
) -> (Result<Reach, Refusal>, Option<Match<'rules>>) {
    let target = way.target();
    if target.is_listener(own) {
        return (Err(Refusal::OwnListener), None);
    }
    let denied = match target.ip() {
        Some(ip) => settings.denied.matches_address(ip, target.port()),
        None => settings.denied.matches(target),
    };
    if let Some(denied) = denied {
        return (Err(Refusal::HostDenied), Some(denied));
    }
    let class = class_by_name(target.host());
    // Before the rules, since no rule would help.
    if class == Some(Class::Forbidden) {
        return (Err(Refusal::Address(OutOfReach::Always)), None);
    }
    // A route opens its upstream, but to itself alone.
    let (reach, rule) = match way {
        Way::Route(route) => (Some(route.reach), None),
        // Ends here, and leads to the routes alone.
        Way::Intercept(target) if settings.routes.owner(target).is_some() => {
            (Some(Reach::Named), None)
        }
        Way::Tunnel(target)
        | Way::Forward(target)
        | Way::Intercept(target)
        | Way::Secure(target, _) => {
            let allowed = settings.allowlist.matches(target);
            (allowed.map(|allowed| allowed.reach), allowed)
        }
    };
    let checked = reach.ok_or(Refusal::HostNotAllowed).and_then(|reach| match class {
        Some(class) => reach.check(class).map(|()| reach).map_err(Refusal::Address),
        None => Ok(reach),
    });
    (checked, rule)
}

/// Notes the rule that decides.
fn note(recorder: &Recorder, found: Match<'_>) {
    recorder.note(|record| record.rule = found.rule.cloned());
}
