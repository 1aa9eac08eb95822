//! The credential of one route: where it is kept, where it goes, and its rendered form.

use std::fmt;
use std::sync::OnceLock;

use zeroize::Zeroizing;

use crate::injection::escape;
use crate::{Error, Injection, Locator, Rendered, Secret, Store};

/// A secret shorter than this is not looked for in responses: it would be found by chance.
const SHORTEST_NEEDLE: usize = 8;

/// The credential of one route.
#[derive(Debug)]
pub struct Credential {
    locator: Locator,
    injection: Injection,
    loaded: OnceLock<Loaded>,
}

/// A credential that has been fetched: ready to be sent, and to be looked for in answers.
pub struct Loaded {
    rendered: Rendered,
    needles: Vec<Zeroizing<Vec<u8>>>,
    /// The length of the longest needle.
    longest: usize,
}

impl Credential {
    /// A credential that is kept at `locator` and goes where `injection` says. Fetches nothing.
    pub fn new(locator: Locator, injection: Injection) -> Self {
        Self { locator, injection, loaded: OnceLock::new() }
    }

    /// Where it is kept.
    pub fn locator(&self) -> &Locator {
        &self.locator
    }

    /// Where on a request it goes.
    pub fn injection(&self) -> &Injection {
        &self.injection
    }

    /// It, if it has been loaded.
    pub fn ready(&self) -> Option<&Loaded> {
        self.loaded.get()
    }

    /// It, fetched from `store` if need be.
    ///
    /// # Errors
    /// [`Error`] when it cannot be fetched, or when its bytes may not stand where it goes.
    pub async fn load(&self, store: &Store) -> Result<&Loaded, Error> {
        if let Some(loaded) = self.loaded.get() {
            return Ok(loaded);
        }
        let secret = store.get(&self.locator).await?;
        let rendered = self
            .injection
            .render(&secret)
            .map_err(|reason| Error::Unusable { locator: self.locator.clone(), reason })?;
        let needles = needles(&secret, &rendered);
        let longest = needles.iter().map(|needle| needle.len()).max().unwrap_or_default();
        Ok(self.loaded.get_or_init(|| Loaded { rendered, needles, longest }))
    }
}

impl Loaded {
    /// The form in which it goes onto requests.
    pub fn rendered(&self) -> &Rendered {
        &self.rendered
    }

    /// The forms in which an upstream may echo it: as it is kept, and, where that differs, as it
    /// was sent.
    pub fn needles(&self) -> impl Iterator<Item = &[u8]> {
        self.needles.iter().map(|needle| needle.as_slice())
    }

    /// The length of the longest of [`Self::needles`]; 0 when there are none.
    pub fn longest_needle(&self) -> usize {
        self.longest
    }
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Loaded([redacted])")
    }
}

/// None with control characters, which no header can carry: what comes before such a byte in a
/// response cannot be the beginning of a needle.
fn needles(secret: &Secret, rendered: &Rendered) -> Vec<Zeroizing<Vec<u8>>> {
    let escaped = escape(secret);
    let kept = secret.expose();
    let sent = match rendered {
        // Without the scheme: what follows it is the secret, or its Base64 form.
        Rendered::Header(_, value) => value.as_bytes().strip_prefix(b"Basic ").unwrap_or(kept),
        Rendered::Query(..) | Rendered::Path { .. } => escaped.expose().as_bytes(),
    };
    let forms = if sent == kept { vec![kept] } else { vec![kept, sent] };
    let is_long = |form: &&[u8]| form.len() >= SHORTEST_NEEDLE;
    let is_text = |form: &&[u8]| !form.iter().any(u8::is_ascii_control);
    forms
        .into_iter()
        .filter(is_long)
        .filter(is_text)
        .map(|form| Zeroizing::new(form.to_vec()))
        .collect()
}
