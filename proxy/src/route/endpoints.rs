//! Which requests a route lets through: a trie of the rules' path segments.
//!
//! The cost of a question grows with the segments of the path asked for, not with the number of
//! rules. Only a rule with a pattern inside a segment (`/files/v*`, `/{a,b}`) is matched by
//! itself, beside those that have the same segments before theirs.
//!
//! To many servers `/files/` and `/files//` are `/files`. So neither `*` nor a `**` at the end
//! stands for nothing: what allows each file does not allow what is done with all of them. The path
//! `/` alone is matched by both.

use std::sync::Arc;

use foldhash::HashMap;
use globset::{GlobBuilder, GlobMatcher};
use http::Method;
use smallvec::SmallVec;

use crate::config::ConfigError;

/// The `endpoint_rules` of a route; a request must match one, if there are any.
#[derive(Debug, Default)]
pub(crate) struct EndpointRules {
    root: Node,
    is_empty: bool,
}

/// What may follow the segments that lead here.
#[derive(Debug, Default)]
struct Node {
    /// Rules that end here.
    here: Methods,
    /// Rules that end in `**` here: they match whatever follows, but a segment that is not empty
    /// must.
    below: Methods,
    /// The next segment, word for word.
    literal: HashMap<Box<[u8]>, Self>,
    /// The next segment is `*`: any one that is not empty.
    any: Option<Box<Self>>,
    /// The next segment is `**`: any number of them, and then what that node has.
    deep: Option<Box<Self>>,
    /// Whether this node is some other's `deep`.
    is_deep: bool,
    /// Rules whose next segment is a pattern; the whole path is matched.
    patterns: Vec<(GlobMatcher, Methods)>,
}

/// The methods of rules with the same path, each with its rule as records have it.
#[derive(Debug, Default)]
struct Methods {
    any: Option<Arc<str>>,
    some: Vec<(Method, Arc<str>)>,
}

/// The method of a rule, `None` for any, and the rule as records have it.
type Ruled = (Option<Method>, Arc<str>);

impl EndpointRules {
    /// Parses `(method, path glob)` pairs.
    ///
    /// # Errors
    /// The first pair that is not a rule, and why.
    pub(crate) fn parse(pairs: &[(String, String)]) -> Result<Self, ConfigError> {
        let mut root = Node::default();
        for (name, glob) in pairs {
            let wrong =
                |reason: &str| ConfigError::new("endpoint_rules", format!("{name} {glob}"), reason);
            let Some(segments) = glob.strip_prefix('/') else {
                return Err(wrong("its path must start with `/`"));
            };
            let parsed = GlobBuilder::new(&filled(glob))
                .literal_separator(true)
                .backslash_escape(false)
                .build()
                .map_err(|error| wrong(&format!("its path is not a glob: {}", error.kind())))?;
            let method = match name.as_str() {
                "*" => None,
                name => Some(
                    Method::from_bytes(name.to_ascii_uppercase().as_bytes())
                        .map_err(|_| wrong("its method is not one; `*` stands for any"))?,
                ),
            };
            root.add(segments, (method, format!("{name} {glob}").into()), || {
                parsed.compile_matcher()
            });
        }
        Ok(Self { root, is_empty: pairs.is_empty() })
    }

    /// Whether there are no rules, so that every request may pass.
    pub(crate) fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// The rule that allows `method` on `path`, if there is one.
    pub(crate) fn allow(&self, method: &Method, path: &str) -> Option<&Arc<str>> {
        let segments = path.as_bytes().strip_prefix(b"/")?;
        let is_root = segments.is_empty();
        let last = segments.iter().rposition(|byte| *byte != b'/');
        let asked = Asked { method, path };
        // All nodes that the segments read so far lead to; no path makes them many.
        let (mut now, mut next) = (Nodes::new(), Nodes::new());
        if let Some(rule) = asked.enters(&self.root, &mut now) {
            return Some(rule);
        }
        let mut begin = 0;
        for segment in segments.split(|byte| *byte == b'/') {
            let is_followed = is_root || last.is_some_and(|last| begin <= last);
            let is_filled = is_root || !segment.is_empty();
            begin += segment.len() + 1;
            for node in now.drain(..) {
                if is_followed && let Some(rule) = node.below.rule(method) {
                    return Some(rule);
                }
                if node.is_deep && !holds(&next, node) {
                    next.push(node);
                }
                let any = node.any.as_deref().filter(|_| is_filled);
                let mut ways = [node.literal.get(segment), any].into_iter().flatten();
                if let Some(rule) = ways.find_map(|way| asked.enters(way, &mut next)) {
                    return Some(rule);
                }
            }
            std::mem::swap(&mut now, &mut next);
        }
        now.iter().find_map(|node| node.here.rule(method))
    }
}

/// A glob that matches what `glob` does, but for empty segments.
fn filled(glob: &str) -> String {
    let last = glob.rsplit('/').next().filter(|last| *last == "**");
    let head = last.map_or(glob, |last| &glob[..glob.len() - last.len()]);
    let segments = head.split('/').map(|segment| if segment == "*" { "?*" } else { segment });
    let head = segments.collect::<Vec<_>>().join("/");
    if last.is_some() { head + "**/{?*,?*/**}" } else { head }
}

/// Nodes of the trie; memory of their own is needed only for more than most rules lead to.
type Nodes<'node> = SmallVec<[&'node Node; 4]>;

/// What is asked for.
struct Asked<'a> {
    method: &'a Method,
    path: &'a str,
}

impl Asked<'_> {
    /// Adds `node` to `set`, with those that no further segment leads to; the rule, if one of
    /// their patterns decides at once.
    fn enters<'node>(&self, node: &'node Node, set: &mut Nodes<'node>) -> Option<&'node Arc<str>> {
        let deep = std::iter::successors(Some(node), |node| node.deep.as_deref());
        for node in deep {
            if !holds(set, node) {
                set.push(node);
                let found = node.patterns.iter().find_map(|(glob, methods)| {
                    methods.rule(self.method).filter(|_| glob.is_match(self.path))
                });
                if found.is_some() {
                    return found;
                }
            }
        }
        None
    }
}

fn holds(set: &[&Node], node: &Node) -> bool {
    set.iter().any(|held| std::ptr::eq(*held, node))
}

impl Node {
    /// Adds a rule whose path from here on is `segments`.
    fn add(&mut self, segments: &str, method: Ruled, whole: impl Fn() -> GlobMatcher) {
        let mut node = self;
        let mut rest = Some(segments);
        while let Some(text) = rest {
            let (segment, after) = match text.split_once('/') {
                Some((segment, after)) => (segment, Some(after)),
                None => (text, None),
            };
            rest = after;
            node = match segment {
                "*" => node.any.get_or_insert_default(),
                "**" if rest.is_none() => return node.below.add(method),
                "**" => {
                    let deep = node.deep.get_or_insert_default();
                    deep.is_deep = true;
                    deep
                }
                _ if segment.contains(['*', '?', '[', '{', '}']) => {
                    let mut methods = Methods::default();
                    methods.add(method);
                    return node.patterns.push((whole(), methods));
                }
                _ => node.literal.entry(segment.as_bytes().into()).or_default(),
            };
        }
        node.here.add(method);
    }
}

impl Methods {
    fn add(&mut self, (method, rule): Ruled) {
        match method {
            None => self.any = Some(rule),
            Some(method) if self.rule(&method).is_none() => self.some.push((method, rule)),
            Some(_) => {}
        }
    }

    fn rule(&self, method: &Method) -> Option<&Arc<str>> {
        let some = || self.some.iter().find(|(known, _)| known == method).map(|(_, rule)| rule);
        self.any.as_ref().or_else(some)
    }
}

#[cfg(test)]
mod tests {
    use globset::GlobBuilder;
    use http::Method;
    use proptest::prelude::{ProptestConfig, Strategy, prop_assert_eq, proptest};
    use proptest::sample::select;

    use super::EndpointRules;

    fn rules(globs: &[String]) -> EndpointRules {
        let pairs: Vec<_> = globs.iter().map(|glob| ("GET".into(), glob.clone())).collect();
        EndpointRules::parse(&pairs).unwrap()
    }

    fn segments(parts: &'static [&'static str]) -> impl Strategy<Value = String> {
        let joined = |segments: Vec<&str>| format!("/{}", segments.join("/"));
        proptest::collection::vec(select(parts), 0..6).prop_map(joined)
    }

    const GLOBS: &[&str] = &["", "a", "b", "*", "**", "a*", "?", "**b", "{a,b/a}", "[!b]", "***"];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        /// A set of rules allows what one of them would by itself.
        #[test]
        fn the_trie_agrees_with_the_globs(
            globs in proptest::collection::vec(segments(GLOBS), 1..5),
            path in segments(&["", "a", "b", "ab", "ba"]),
        ) {
            let alone = |glob: &String| {
                let is_root = path == "/";
                let glob = if is_root { glob.clone() } else { super::filled(glob) };
                let glob = GlobBuilder::new(&glob).literal_separator(true).build().unwrap();
                glob.compile_matcher().is_match(&path)
            };
            let expected = globs.iter().any(alone);
            prop_assert_eq!(rules(&globs).allow(&Method::GET, &path).is_some(), expected);
        }
    }

    #[test]
    fn a_method_belongs_to_its_own_path() {
        let pairs = [("GET", "/a/*"), ("POST", "/a/b"), ("*", "/c/**"), ("PUT", "/d*")];
        let pairs: Vec<_> = pairs.map(|(m, p)| (m.to_owned(), p.to_owned())).into();
        let rules = EndpointRules::parse(&pairs).unwrap();
        assert!(rules.allow(&Method::GET, "/a/b").is_some());
        assert!(rules.allow(&Method::POST, "/a/b").is_some());
        assert!(rules.allow(&Method::POST, "/a/c").is_none());
        assert!(rules.allow(&Method::DELETE, "/c/x/y").is_some());
        assert!(rules.allow(&Method::DELETE, "/c").is_none());
        assert!(rules.allow(&Method::PUT, "/dx").is_some());
        assert!(rules.allow(&Method::GET, "/dx").is_none());
    }

    #[test]
    fn no_star_stands_for_nothing_but_at_the_root() {
        for (glob, allowed, refused) in [
            ("/files/*", &["/files/a"][..], &["/files", "/files/", "/files//", "/files/a/"][..]),
            ("/files/*/meta", &["/files/a/meta"], &["/files//meta", "/files/meta"]),
            (
                "/files/**",
                &["/files/a", "/files/a/", "/files//a"],
                &["/files", "/files/", "/files//"],
            ),
            ("/v*/*", &["/v1/a"], &["/v1/", "/v1"]),
            ("/v*/**", &["/v1/a", "/v1/a/b/", "/v1/a//"], &["/v1/", "/v1//", "/v1"]),
            ("/files/", &["/files/"], &["/files"]),
            ("/*", &["/", "/a"], &["//", "/a/"]),
            ("/**", &["/", "/a", "/a/"], &["//"]),
            ("/**/end", &["/end", "/a/end", "//end"], &["/end/"]),
        ] {
            let rules = rules(&[glob.to_owned()]);
            let is_allowed = |path: &&str| rules.allow(&Method::GET, path).is_some();
            assert!(allowed.iter().all(is_allowed), "{glob}");
            assert!(!refused.iter().any(is_allowed), "{glob}");
        }
    }

    #[test]
    fn a_long_path_is_judged_in_a_moment() {
        let globs: Vec<_> = ["/**/a/**/a/**/b", "/**/*/a/**/*/c"].map(str::to_owned).into();
        let rules = rules(&globs);
        assert!(rules.allow(&Method::GET, &"/a".repeat(32_000)).is_none());
    }
}
