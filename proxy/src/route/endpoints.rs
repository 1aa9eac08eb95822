//! Which requests a route lets through: a trie of the rules' path segments.
//!
//! The cost of a question grows with the segments of the path asked for, not with the number of
//! rules. Only a segment with a pattern in it (`v*`, `[ab]?`) is matched by itself, beside those
//! that have the same segments before theirs. Braces stand for several paths, each a rule of its
//! own ([`expand`]).
//!
//! To many servers `/files/` and `/files//` are `/files`. So neither `*` nor a `**` at the end
//! stands for nothing: what allows each file does not allow what is done with all of them. The path
//! `/` alone is matched by both.

mod expand;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use foldhash::HashMap;
use globset::{Error as GlobError, Glob, GlobBuilder, GlobMatcher};
use http::Method;
use smallvec::SmallVec;
use smol_str::SmolStr;

use crate::config::ConfigError;
use expand::{MOST, Segment};

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
    /// The next segment is one that a pattern matches, which is none that is empty.
    patterns: Vec<(GlobMatcher, Self)>,
    /// The next segment is `**`: any number of them, and then what that node has.
    deep: Option<Box<Self>>,
    /// Whether this node is some other's `deep`.
    is_deep: bool,
}

/// The methods of rules with the same path, each with its rule as records have it.
#[derive(Debug, Default)]
struct Methods {
    any: Option<SmolStr>,
    some: Vec<(Method, SmolStr)>,
}

/// The method of a rule, `None` for any, and the rule as records have it.
type Ruled = (Option<Method>, SmolStr);

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
            let malformed =
                |error: GlobError| wrong(&format!("its path is not a glob: {}", error.kind()));
            parse(glob).map_err(malformed)?;
            let paths = expand::paths(segments)
                .ok_or_else(|| wrong(&format!("its braces stand for more than {MOST} paths")))?;
            let method = match name.as_str() {
                "*" => None,
                name => Some(
                    Method::from_bytes(name.to_ascii_uppercase().as_bytes())
                        .map_err(|_| wrong("its method is not one; `*` stands for any"))?,
                ),
            };
            let rule: SmolStr = format!("{name} {glob}").into();
            for path in paths {
                let ruled = (method.clone(), rule.clone());
                root.add(&expand::segments(&path), ruled).map_err(malformed)?;
            }
        }
        Ok(Self { root, is_empty: pairs.is_empty() })
    }

    /// Whether there are no rules, so that every request may pass.
    pub(crate) fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// The rule that allows `method` on `path`, if there is one.
    pub(crate) fn allow(&self, method: &Method, path: &str) -> Option<&SmolStr> {
        self.allow_by(method, path, |_| true)
    }

    /// As [`Self::allow`], by a rule that `is_meant`.
    pub(crate) fn allow_by<'rules>(
        &'rules self,
        method: &Method,
        path: &str,
        is_meant: impl Fn(&str) -> bool,
    ) -> Option<&'rules SmolStr> {
        let rule = |of: &'rules Methods| of.rule(method).filter(|rule| is_meant(rule));
        let segments = path.as_bytes().strip_prefix(b"/")?;
        let is_root = segments.is_empty();
        let last = segments.iter().rposition(|byte| *byte != b'/');
        // All nodes that the segments read so far lead to; no path makes them many.
        let (mut now, mut next) = (Nodes::new(), Nodes::new());
        enter(&self.root, &mut now);
        let mut begin = 0;
        for segment in segments.split(|byte| *byte == b'/') {
            let is_followed = is_root || last.is_some_and(|last| begin <= last);
            let is_filled = is_root || !segment.is_empty();
            begin += segment.len() + 1;
            for node in now.drain(..) {
                if is_followed && let Some(rule) = rule(&node.below) {
                    return Some(rule);
                }
                if node.is_deep && !holds(&next, node) {
                    next.push(node);
                }
                if let Some(way) = node.literal.get(segment) {
                    enter(way, &mut next);
                }
                if is_filled && let Some(way) = &node.any {
                    enter(way, &mut next);
                }
                for (glob, way) in &node.patterns {
                    if glob.is_match(OsStr::from_bytes(segment)) {
                        enter(way, &mut next);
                    }
                }
            }
            std::mem::swap(&mut now, &mut next);
        }
        now.iter().find_map(|node| rule(&node.here))
    }
}

fn parse(glob: &str) -> Result<Glob, GlobError> {
    GlobBuilder::new(glob).literal_separator(true).backslash_escape(false).build()
}

/// Nodes of the trie; memory of their own is needed only for more than most rules lead to.
type Nodes<'node> = SmallVec<[&'node Node; 4]>;

/// Adds `node` to `set`, with those that no further segment leads to.
fn enter<'node>(node: &'node Node, set: &mut Nodes<'node>) {
    let mut way = Some(node);
    while let Some(node) = way {
        if !holds(set, node) {
            set.push(node);
        }
        way = node.deep.as_deref();
    }
}

fn holds(set: &[&Node], node: &Node) -> bool {
    set.iter().any(|held| std::ptr::eq(*held, node))
}

impl Node {
    /// Adds a rule whose path from here on is `segments`.
    fn add(&mut self, segments: &[Segment<'_>], method: Ruled) -> Result<(), GlobError> {
        let mut node = self;
        for (at, segment) in segments.iter().enumerate() {
            node = match segment {
                Segment::Any => node.any.get_or_insert_default(),
                Segment::Deep if at + 1 == segments.len() => {
                    node.below.add(method);
                    return Ok(());
                }
                Segment::Deep => {
                    let deep = node.deep.get_or_insert_default();
                    deep.is_deep = true;
                    deep
                }
                Segment::Pattern(text) => node.pattern(text)?,
                Segment::Literal(text) => node.literal.entry(text.as_bytes().into()).or_default(),
            };
        }
        node.here.add(method);
        Ok(())
    }

    /// The node behind a segment that the pattern `text` matches.
    fn pattern(&mut self, text: &str) -> Result<&mut Self, GlobError> {
        let known = self.patterns.iter().position(|(glob, _)| glob.glob().glob() == text);
        let at = known.unwrap_or(self.patterns.len());
        if known.is_none() {
            self.patterns.push((parse(text)?.compile_matcher(), Self::default()));
        }
        Ok(&mut self.patterns[at].1)
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

    fn rule(&self, method: &Method) -> Option<&SmolStr> {
        let some = || self.some.iter().find(|(known, _)| known == method).map(|(_, rule)| rule);
        self.any.as_ref().or_else(some)
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use proptest::prelude::{ProptestConfig, Strategy, prop_assert, prop_assert_eq, proptest};
    use proptest::sample::select;

    use super::expand::{Segment, paths, segments};
    use super::{EndpointRules, parse};

    fn rules(globs: &[String]) -> EndpointRules {
        let pairs: Vec<_> = globs.iter().map(|glob| ("GET".into(), glob.clone())).collect();
        EndpointRules::parse(&pairs).unwrap()
    }

    fn is_match(glob: &str, path: &str) -> bool {
        parse(glob).unwrap().compile_matcher().is_match(path)
    }

    fn joined(parts: &'static [&'static str]) -> impl Strategy<Value = String> {
        let joined = |segments: Vec<&str>| format!("/{}", segments.join("/"));
        proptest::collection::vec(select(parts), 0..6).prop_map(joined)
    }

    const GLOBS: &[&str] = &[
        "",
        "a",
        "b",
        "*",
        "**",
        "a*",
        "?",
        "**b",
        "{a,b/a}",
        "[!b]",
        "***",
        "{*,ab}",
        "{b,}*",
        "{a,}{/*,b}",
    ];

    /// Whether the segments of a rule's path match those of a request's, said as simply as can be.
    fn matches(rule: &[Segment<'_>], path: &[&str], is_root: bool) -> bool {
        let [first, rest @ ..] = rule else { return path.is_empty() };
        let is_filled = |segment: &&str| is_root || !segment.is_empty();
        if *first == Segment::Deep {
            return if rest.is_empty() {
                path.iter().any(is_filled)
            } else {
                (0..=path.len()).any(|begin| matches(rest, &path[begin..], is_root))
            };
        }
        path.split_first().is_some_and(|(segment, behind)| {
            let fits = match first {
                Segment::Literal(text) => text == segment,
                Segment::Pattern(text) => is_match(text, segment),
                Segment::Any | Segment::Deep => is_filled(segment),
            };
            fits && matches(rest, behind, is_root)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        /// A set of rules allows what one of them would by itself, and nothing that its glob, which
        /// has stars that stand for nothing, would not match.
        #[test]
        fn the_trie_agrees_with_the_globs(
            globs in proptest::collection::vec(joined(GLOBS), 1..5),
            path in joined(&["", "a", "b", "ab", "ba"]),
        ) {
            let asked: Vec<_> = path[1..].split('/').collect();
            let alone = |glob: &String| {
                let mut paths = paths(&glob[1..]).unwrap().into_iter();
                paths.any(|rule| matches(&segments(&rule), &asked, path == "/"))
            };
            let is_allowed = rules(&globs).allow(&Method::GET, &path).is_some();
            prop_assert_eq!(is_allowed, globs.iter().any(alone));
            let is_matched = globs.iter().any(|glob| is_match(glob, &path));
            prop_assert!(is_matched || !is_allowed);
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
            ("/files/{*,x}", &["/files/a", "/files/x"], &["/files/", "/files//"]),
            ("/files/***", &["/files/a"], &["/files/", "/files//", "/files/a/b"]),
            ("/files{/*,/a/b}", &["/files/a", "/files/a/b"], &["/files", "/files/"]),
            ("/files/{a*,{b,**}}", &["/files/a", "/files/c/d"], &["/files/", "/files//"]),
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
        for globs in [&["/**/a/**/a/**/b", "/**/*/a/**/*/c"][..], &["/**/a/x*", "/**/[ab]/**/y?"]] {
            let globs: Vec<_> = globs.iter().copied().map(str::to_owned).collect();
            assert!(rules(&globs).allow(&Method::GET, &"/a".repeat(32_000)).is_none());
        }
    }

    #[test]
    fn braces_that_stand_for_more_than_can_be_kept_are_a_mistake() {
        let glob = format!("/{}", "{a,b}".repeat(20));
        let error = EndpointRules::parse(&[("GET".into(), glob)]).unwrap_err();
        assert!(error.to_string().contains("more than 1000 paths"), "{error}");
    }
}
