//! What chosen groups say of the network, put together for a proxy. Whether a host or a route is
//! one is the proxy's to judge.

use std::collections::BTreeMap;

use super::document::NetworkRules;
use super::error::PolicyError;
use super::value::{Amount, Port};
use super::{Group, Policy, Route};

/// What a proxy is to allow. Each rule stands with the group that it comes from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NetworkPlan {
    /// Hosts that may be reached.
    pub allowed_hosts: Vec<(String, String)>,
    /// Hosts that are refused whatever else allows them.
    pub denied_hosts: Vec<(String, String)>,
    /// Routes, with their groups and names.
    pub routes: Vec<(String, String, Route)>,
    /// The proxy behind the proxy.
    pub upstream_proxy: Option<(String, String)>,
    /// Hosts that are reached without it.
    pub upstream_bypass: Vec<(String, String)>,
    /// How many exchanges may run at once: the smallest number that a group says.
    pub max_connections: Option<u64>,
}

impl Policy {
    /// What these groups say of the network; `None` if they say nothing that a proxy would do. Of
    /// one that blocks it [`check_blocking`](Self::check_blocking) knows.
    ///
    /// # Errors
    ///
    /// [`PolicyError::UnknownGroup`], [`PolicyError::CredentialsByName`], and
    /// [`PolicyError::Conflict`] if two groups name different proxies, or different routes alike.
    pub fn network_plan(&self, names: &[String]) -> Result<Option<NetworkPlan>, PolicyError> {
        let mut plan = NetworkPlan::default();
        let mut wants_proxy = false;
        self.select(names)?;
        // In the order in which they were named, since the order of hosts is what people see.
        for name in names {
            let group = self.group(name)?;
            if group.is_for_here() && group.network.wants_proxy() {
                wants_proxy = true;
                plan.add(name, &group.network)?;
            }
        }
        Ok(wants_proxy.then_some(plan))
    }

    /// Refuses groups of which one blocks the network that one opens, which may be the same: by a
    /// port, or by what it lets a proxy reach. A group that only limits what a proxy does opens
    /// nothing, and one that blocks leaves nothing to be done by a proxy.
    ///
    /// # Errors
    ///
    /// [`PolicyError::UnknownGroup`] or [`PolicyError::Blocked`].
    pub fn check_blocking(&self, names: &[String]) -> Result<(), PolicyError> {
        check_opened(&self.select(names)?, NetworkRules::opens_beside)
    }

    /// The groups among these that block the network.
    ///
    /// # Errors
    ///
    /// [`PolicyError::UnknownGroup`].
    pub fn blocking_groups(&self, names: &[String]) -> Result<Vec<String>, PolicyError> {
        let chosen = self.select(names)?;
        let blocking = chosen.iter().filter(|(_, group)| group.network.block);
        Ok(blocking.map(|(name, _)| (*name).to_owned()).collect())
    }

    /// The TCP ports that these groups open past a proxy: group, field and port; to be connected
    /// to on every host, then on this one, then to be served at.
    ///
    /// # Errors
    ///
    /// [`PolicyError::UnknownGroup`].
    pub fn port_rules(
        &self,
        names: &[String],
    ) -> Result<Vec<(String, &'static str, u16)>, PolicyError> {
        let chosen = self.select(names)?;
        let of = |field, ports: fn(&NetworkRules) -> &[Port]| {
            chosen.iter().flat_map(move |(name, group)| {
                let ports = ports(&group.network).iter();
                ports.map(move |port| ((*name).to_owned(), field, port.port()))
            })
        };
        let every = of("connect_ports", |rules| &rules.connect_ports);
        let local = of("localhost_ports", |rules| &rules.localhost_ports);
        Ok(every.chain(local).chain(of("bind_ports", |rules| &rules.bind_ports)).collect())
    }
}

/// Refuses groups of which one blocks what one opens, which is what a function says of the opening
/// and the blocking rules.
///
/// # Errors
///
/// [`PolicyError::Blocked`].
pub(super) fn check_opened(
    chosen: &BTreeMap<&str, &Group>,
    opened: fn(&NetworkRules, &NetworkRules) -> Option<String>,
) -> Result<(), PolicyError> {
    for (blocking, rules) in chosen.iter().map(|(name, group)| (name, &group.network)) {
        let opened = |(opening, group): (&&str, &&Group)| {
            let opened = opened(&group.network, rules)?;
            let (blocking, opening) = ((*blocking).to_owned(), (*opening).to_owned());
            Some(PolicyError::Blocked { blocking, opening, opened })
        };
        if let Some(error) = chosen.iter().find_map(opened).filter(|_| rules.block) {
            return Err(error);
        }
    }
    Ok(())
}

impl NetworkRules {
    /// What these open of a network that others block, by a proxy or past it.
    fn opens_beside(&self, blocking: &Self) -> Option<String> {
        let is_open = !self.allow_domain.is_empty()
            || !self.credentials.is_empty()
            || !self.custom_credentials.is_empty()
            || self.upstream_proxy.is_some();
        is_open.then(|| "some of it".to_owned()).or_else(|| self.opens_port_beside(blocking))
    }

    /// The port that these open of a network that others block. A group may itself name ports that
    /// stay open all the same; this machine is no network.
    pub(super) fn opens_port_beside(&self, blocking: &Self) -> Option<String> {
        let ports = [
            ("connect_ports", &self.connect_ports, &blocking.connect_ports),
            ("bind_ports", &self.bind_ports, &blocking.bind_ports),
        ];
        ports.into_iter().find_map(|(field, own, open)| {
            let port = own.iter().find(|port| !open.contains(port))?;
            Some(format!("{field} {}", port.port()))
        })
    }

    /// Whether they say anything that a proxy would do.
    pub(super) fn wants_proxy(&self) -> bool {
        !self.allow_domain.is_empty()
            || !self.deny_domain.is_empty()
            || !self.credentials.is_empty()
            || !self.custom_credentials.is_empty()
            || self.upstream_proxy.is_some()
            || !self.upstream_bypass.is_empty()
            || self.max_connections.is_some()
    }
}

impl NetworkPlan {
    fn add(&mut self, group: &str, rules: &NetworkRules) -> Result<(), PolicyError> {
        if !rules.credentials.is_empty() {
            return Err(PolicyError::CredentialsByName { group: group.to_owned() });
        }
        let conflict = |what: String, first: &str| PolicyError::Conflict {
            what,
            first: first.to_owned(),
            second: group.to_owned(),
        };
        add_new(&mut self.allowed_hosts, group, &rules.allow_domain);
        add_new(&mut self.denied_hosts, group, &rules.deny_domain);
        add_new(&mut self.upstream_bypass, group, &rules.upstream_bypass);
        match (&self.upstream_proxy, &rules.upstream_proxy) {
            (Some((first, known)), Some(address)) if known != address => {
                return Err(conflict("upstream_proxy".to_owned(), first));
            }
            (None, Some(address)) => {
                self.upstream_proxy = Some((group.to_owned(), address.clone()));
            }
            _ => {}
        }
        for (name, route) in &rules.custom_credentials {
            match self.routes.iter().find(|(_, known, _)| known == name) {
                Some((first, _, known)) if known != route => {
                    return Err(conflict(format!("custom_credentials `{name}`"), first));
                }
                Some(_) => {}
                None => self.routes.push((group.to_owned(), name.clone(), route.clone())),
            }
        }
        let most = rules.max_connections.map(Amount::get);
        self.max_connections = self.max_connections.into_iter().chain(most).min();
        Ok(())
    }
}

fn add_new(list: &mut Vec<(String, String)>, group: &str, hosts: &[String]) {
    for host in hosts {
        if !list.iter().any(|(_, known)| known == host) {
            list.push((group.to_owned(), host.clone()));
        }
    }
}
