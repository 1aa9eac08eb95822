//! What the glob of a rule stands for: its braces for several paths, and each path for segments.

use std::borrow::Cow;

/// How many paths the braces of one rule may stand for.
pub(super) const MOST: usize = 1000;

/// Where braces were: no path has one of these when they are expanded. Stars on both sides of one
/// are no `**`.
const SEAM: char = '}';

/// A segment of a rule's path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Segment<'a> {
    /// `*`.
    Any,
    /// `**`.
    Deep,
    /// With `*`, `?` or a class in it, and something else.
    Pattern(Cow<'a, str>),
    /// Word for word.
    Literal(Cow<'a, str>),
}

/// The paths that `glob` stands for, whose form has been judged; `None` if they are too many.
pub(super) fn paths(glob: &str) -> Option<Vec<String>> {
    let (mut paths, mut open) = (Vec::new(), vec![glob.to_owned()]);
    while let Some(glob) = open.pop() {
        match alternatives(&glob) {
            None => paths.push(glob),
            // The outermost first: what is within is expanded when its own turn comes.
            Some((head, parts, tail)) => {
                let seam = |is_at_end: bool| if is_at_end { "" } else { "}" };
                let before = seam(head.is_empty() || head.ends_with('/'));
                let behind = seam(tail.is_empty() || tail.starts_with('/'));
                // One that is empty stands for nothing, and so for no path.
                let parts = parts.into_iter().filter(|part| !part.is_empty());
                open.extend(parts.map(|part| [head, before, part, behind, tail].concat()));
            }
        }
        if paths.len() + open.len() > MOST {
            return None;
        }
    }
    Some(paths)
}

/// The segments of one of the [`paths`].
pub(super) fn segments(path: &str) -> Vec<Segment<'_>> {
    let ends = outside_classes(path).filter(|(_, c)| *c == '/').map(|(at, _)| at);
    let mut begin = 0;
    let texts = ends.chain([path.len()]).map(|end| {
        let text = &path[begin..end];
        begin = end + 1;
        text
    });
    texts.map(segment).collect()
}

fn segment(text: &str) -> Segment<'_> {
    if text == "**" {
        return Segment::Deep;
    }
    let text = without_seams(text);
    if !text.is_empty() && text.bytes().all(|byte| byte == b'*') {
        Segment::Any
    } else if text.contains(['*', '?', '[']) {
        Segment::Pattern(text)
    } else {
        Segment::Literal(text)
    }
}

fn without_seams(text: &str) -> Cow<'_, str> {
    if !text.contains(SEAM) {
        return text.into();
    }
    let seams: Vec<_> =
        outside_classes(text).filter(|(_, c)| *c == SEAM).map(|(at, _)| at).collect();
    let kept = text.char_indices().filter(|(at, _)| !seams.contains(at));
    kept.map(|(_, c)| c).collect::<String>().into()
}

/// The first braces of `glob`: what is before them, the alternatives in them, what is behind them.
fn alternatives(glob: &str) -> Option<(&str, Vec<&str>, &str)> {
    let mut marks = outside_classes(glob).skip_while(|(_, c)| *c != '{');
    let (open, _) = marks.next()?;
    let (mut depth, mut begin, mut parts) = (0, open + 1, Vec::new());
    for (at, c) in marks {
        match c {
            '{' => depth += 1,
            ',' if depth == 0 => {
                parts.push(&glob[begin..at]);
                begin = at + 1;
            }
            '}' if depth == 0 => {
                parts.push(&glob[begin..at]);
                return Some((&glob[..open], parts, &glob[at + 1..]));
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// The characters of `glob` that are not in a class (`[…]`), and where.
fn outside_classes(glob: &str) -> impl Iterator<Item = (usize, char)> {
    let mut rest = glob.char_indices().peekable();
    std::iter::from_fn(move || {
        let (at, c) = rest.next()?;
        if c == '[' {
            rest.next_if(|(_, c)| matches!(c, '!' | '^'));
            // What comes first is a member, also where it would end the class.
            rest.next();
            while rest.next().is_some_and(|(_, c)| c != ']') {}
        }
        Some((at, c))
    })
}

#[cfg(test)]
mod tests {
    use super::{MOST, Segment, paths, segments};

    fn expanded(glob: &str) -> Vec<String> {
        let mut paths = paths(glob).unwrap();
        paths.sort();
        paths.into_iter().map(|path| path.replace('}', "|")).collect()
    }

    #[test]
    fn braces_stand_for_each_of_their_alternatives() {
        for (glob, paths) in [
            ("a/b", &["a/b"][..]),
            ("{a,b}/c", &["a/c", "b/c"]),
            ("a{,b/c}", &["a|b/c"]),
            ("a{}", &[]),
            ("x/{a,{b,c/d}}", &["x/a", "x/b", "x/c/d"]),
            ("{a,b}{c,d}", &["a||c", "a||d", "b||c", "b||d"]),
            ("[{,}]", &["[{,|]"]),
            ("{[]},],b}", &["[]|,]", "b"]),
        ] {
            assert_eq!(expanded(glob), paths, "{glob}");
        }
        let many = "{0,1,2,3,4,5,6,7,8,9}".repeat(3);
        assert_eq!(paths(&many).map(|paths| paths.len()), Some(MOST));
        assert_eq!(paths(&(many + "{a,b}")), None);
        assert_eq!(paths(&"{a,b}".repeat(100)), None);
    }

    #[test]
    fn a_star_is_one_segment_however_many_stand_beside_each_other() {
        use Segment::{Any, Deep, Literal, Pattern};
        for (glob, expected) in [
            ("a/*/**", vec![Literal("a".into()), Any, Deep]),
            ("***/**b", vec![Any, Pattern("**b".into())]),
            ("{*}*/{**}", vec![Any, Deep]),
            ("{*}**/a", vec![Any, Literal("a".into())]),
            ("[/}]/{a}", vec![Pattern("[/}]".into()), Literal("a".into())]),
            ("", vec![Literal("".into())]),
        ] {
            let paths = paths(glob).unwrap();
            assert_eq!(segments(&paths[0]), expected, "{glob}");
        }
    }
}
