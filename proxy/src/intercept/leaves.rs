//! The certificates shown to clients: one for each host, made when it is first asked for.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dashmap::{DashMap, Entry};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use url::Host;

use super::authority::{Authority, Minted};
use crate::tls::provider;

/// How long a certificate is valid, and how long before its end it is made anew: longer than
/// clients keep a connection, and longer than clocks differ.
const LIFETIME: Duration = Duration::from_hours(24 * 7);
pub(super) const RENEWED: Duration = Duration::from_hours(24);

/// How long before the end of the authority somebody is told: longer than weekends.
const WARNED: Duration = Duration::from_hours(24 * 7);

/// How many hosts' certificates are kept. Which hosts there can be is for the configuration to
/// say, but a wildcard in it stands for any number.
const MOST: usize = 4096;

/// Why no certificate could be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MintError {
    /// The name cannot stand in one.
    #[error("no certificate can be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// It cannot be served.
    #[error("the certificate cannot be used: {0}")]
    Tls(#[from] rustls::Error),
}

/// See the module.
pub(crate) struct Leaves {
    authority: Authority,
    /// Shared by all, so that a client resumes its session whichever worker it meets.
    tickets: Arc<dyn ProducesTickets>,
    kept: DashMap<Host<String>, Leaf>,
}

struct Leaf {
    config: Arc<ServerConfig>,
    renewed: SystemTime,
}

impl Leaves {
    /// Certificates that `authority` vouches for.
    pub(super) fn new(authority: Authority) -> Result<Self, MintError> {
        Ok(Self { authority, tickets: Ticketer::new()?, kept: DashMap::new() })
    }

    /// When the authority ends, if that is soon at `now`, or over.
    pub(super) fn ending(&self, now: SystemTime) -> Option<SystemTime> {
        Some(self.authority.expires()).filter(|expires| *expires <= now + WARNED)
    }

    /// How to be `host` to its clients at `now`.
    ///
    /// # Errors
    /// The name cannot stand in a certificate.
    pub(crate) fn get(
        &self,
        host: &Host<String>,
        now: SystemTime,
    ) -> Result<Arc<ServerConfig>, MintError> {
        if let Some(leaf) = self.kept.get(host).filter(|leaf| now < leaf.renewed) {
            return Ok(Arc::clone(&leaf.config));
        }
        self.make_room(now);
        // The lock of the entry lets one thread make it and the others wait, some 0.1 ms.
        match self.kept.entry(host.clone()) {
            Entry::Occupied(entry) if now < entry.get().renewed => {
                Ok(Arc::clone(&entry.get().config))
            }
            entry => {
                let leaf = self.mint(host, now)?;
                let config = Arc::clone(&leaf.config);
                entry.insert(leaf);
                Ok(config)
            }
        }
    }

    fn mint(&self, host: &Host<String>, now: SystemTime) -> Result<Leaf, MintError> {
        let Minted { chain, key, expires } = self.authority.mint(host, now, LIFETIME)?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = Arc::clone(&self.tickets);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        // One made later would not be valid for longer than the authority is.
        let is_last = expires == self.authority.expires();
        let renewed = if is_last { now + RENEWED } else { expires - RENEWED };
        Ok(Leaf { config: Arc::new(config), renewed })
    }

    /// Drops what is due, and any other if all is fresh, when there are as many as may be.
    fn make_room(&self, now: SystemTime) {
        if self.kept.len() < MOST {
            return;
        }
        self.kept.retain(|_, leaf| now < leaf.renewed);
        if self.kept.len() >= MOST {
            // In two steps: the first holds a lock that the second needs.
            let any = self.kept.iter().next().map(|leaf| leaf.key().clone());
            any.and_then(|host| self.kept.remove(&host));
        }
    }
}

impl fmt::Debug for Leaves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaves").field("kept", &self.kept.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "leaves/tests.rs"]
mod tests;
