//! A credential that has been fetched: ready to be sent, and to be looked for in answers.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue};

use crate::injection::escape;
use crate::{Header, Injection, Rendered, Secret, SecretBuf};

/// A secret shorter than this is not looked for in responses: it would be found by chance.
const SHORTEST_NEEDLE: usize = 8;

/// How many needles of replaced secrets are kept, and for how long: an upstream may still echo one
/// that came with another request. The one of its own request is looked for without any limit.
const REMEMBERED: usize = 16;
const REMEMBERED_FOR: Duration = Duration::from_hours(1);

/// See the module.
pub struct Loaded {
    rendered: Rendered,
    headers: Vec<(HeaderName, HeaderValue)>,
    needles: Vec<Needle>,
    /// The length of the longest needle.
    longest: usize,
    expires: Option<Instant>,
}

/// A form in which an upstream may echo the secret.
#[derive(Clone)]
struct Needle {
    bytes: Arc<SecretBuf>,
    /// When the secret was replaced, if it was.
    retired: Option<Instant>,
}

impl Loaded {
    /// `secret`, rendered; the needles of `previous` are taken over.
    ///
    /// # Errors
    /// The rule that the secret breaks.
    pub(crate) fn new(
        (injection, headers): (&Injection, &[Header]),
        secret: &Secret,
        expires: Option<Instant>,
        previous: Option<&Self>,
    ) -> Result<Self, &'static str> {
        let rendered = injection.render(secret)?;
        let headers =
            headers.iter().map(|header| header.render(secret)).collect::<Result<_, _>>()?;
        let mut needles = needles(secret, &rendered);
        let retired = previous.map(|old| old.retired(&needles));
        needles.extend(retired.into_iter().flatten());
        let longest = needles.iter().map(|needle| needle.bytes.len()).max().unwrap_or_default();
        Ok(Self { rendered, headers, needles, longest, expires })
    }

    /// The form in which it goes onto requests.
    pub fn rendered(&self) -> &Rendered {
        &self.rendered
    }

    /// The further headers that go with it.
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    /// Whether it may still be sent.
    pub fn is_valid(&self) -> bool {
        self.expires.is_none_or(|expires| Instant::now() < expires)
    }

    /// When it stops being valid, if it does.
    pub fn expires(&self) -> Option<Instant> {
        self.expires
    }

    /// The forms in which an upstream may echo it: as it is kept, and, where that differs, as it
    /// was sent; of Basic credentials the password, too. Those of recently replaced secrets are among them.
    pub fn needles(&self) -> impl Iterator<Item = &[u8]> {
        self.needles.iter().map(|needle| &**needle.bytes)
    }

    /// The length of the longest of [`Self::needles`]; 0 when there are none.
    pub fn longest_needle(&self) -> usize {
        self.longest
    }

    /// Whether it is sent as `other` is.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.rendered == other.rendered && self.headers == other.headers
    }

    /// Its needles that are still worth looking for beside `current`.
    fn retired(&self, current: &[Needle]) -> Vec<Needle> {
        let now = Instant::now();
        let is_other = |needle: &&Needle| current.iter().all(|other| other.bytes != needle.bytes);
        self.needles
            .iter()
            .filter(is_other)
            .map(|needle| Needle { retired: needle.retired.or(Some(now)), ..needle.clone() })
            .filter(|needle| needle.retired.is_none_or(|at| now - at < REMEMBERED_FOR))
            .take(REMEMBERED)
            .collect()
    }
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Loaded([redacted])")
    }
}

/// None with control characters, which no header can carry: what comes before such a byte in a
/// response cannot be the beginning of a needle.
fn needles(secret: &Secret, rendered: &Rendered) -> Vec<Needle> {
    let escaped = escape(secret);
    let kept = secret.expose();
    let sent = match rendered {
        // Without the scheme: what follows it is the secret, or its Base64 form.
        Rendered::Header(_, value) => value.as_bytes().strip_prefix(b"Basic ").unwrap_or(kept),
        Rendered::Query(..) | Rendered::Path { .. } => escaped.expose(),
    };
    // Of Basic credentials the password alone, too: the user is no secret.
    let pair = matches!(rendered, Rendered::Header(..)) && sent != kept;
    let colon = kept.iter().position(|byte| *byte == b':').filter(|_| pair);
    let password = colon.map(|at| &kept[at + 1..]);
    let sent = Some(sent).filter(|sent| *sent != kept);
    let forms = [Some(kept), sent, password];
    let is_long = |form: &&[u8]| form.len() >= SHORTEST_NEEDLE;
    let is_text = |form: &&[u8]| !form.iter().any(u8::is_ascii_control);
    let new = |form: &[u8]| Needle { bytes: Arc::new(form.into()), retired: None };
    forms.into_iter().flatten().filter(is_long).filter(is_text).map(new).collect()
}

#[cfg(test)]
mod tests {
    use http::header::AUTHORIZATION;

    use super::{Loaded, REMEMBERED};
    use crate::{Injection, Secret};

    fn loaded(secret: &str, previous: Option<&Loaded>) -> Loaded {
        let injection = Injection::QueryParam { name: "key".into() };
        Loaded::new((&injection, &[]), &Secret::new(secret.into()), None, previous).unwrap()
    }

    fn needles(loaded: &Loaded) -> Vec<&str> {
        loaded.needles().map(|needle| std::str::from_utf8(needle).unwrap()).collect()
    }

    #[test]
    fn of_basic_credentials_a_password_is_looked_for_that_is_long_enough() {
        let basic = |pair: &str| {
            let injection = Injection::BasicAuth { name: AUTHORIZATION };
            Loaded::new((&injection, &[]), &Secret::new(pair.into()), None, None).unwrap()
        };
        let long = basic("user:pass:word");
        assert_eq!(needles(&long), ["user:pass:word", "dXNlcjpwYXNzOndvcmQ=", "pass:word"]);
        assert_eq!(needles(&basic("user:pass")), ["user:pass", "dXNlcjpwYXNz"]);
    }

    #[test]
    fn a_replaced_secret_is_still_looked_for_and_one_long_gone_is_not() {
        let first = loaded("first-secret", None);
        let second = loaded("second-secret", Some(&first));
        assert_eq!(needles(&second), ["second-secret", "first-secret"]);
        let again = loaded("first-secret", Some(&second));
        assert_eq!(needles(&again), ["first-secret", "second-secret"]);
        let last = (0..2 * REMEMBERED)
            .fold(second, |old, n| loaded(&format!("secret-number-{n}"), Some(&old)));
        assert_eq!(needles(&last).len(), REMEMBERED + 1);
        assert!(!needles(&last).contains(&"first-secret"));
        assert_eq!(last.longest_needle(), "secret-number-31".len());
    }
}
