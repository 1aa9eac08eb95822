//! Whether a rule in Seatbelt's own language may be part of a profile.
//!
//! The language is a Scheme: a text in it can do anything while it is read. So a rule is taken if it
//! is `(allow OPERATION... FILTER...)`, or the same with `deny`, and each filter is one that is
//! known here; whatever else there may be is refused.

use std::iter::Peekable;
use std::str::Chars;

/// How deep filters may be within each other.
const MOST_LEVELS: usize = 16;

/// What a profile allows anyway, everywhere.
const HARMLESS: &str = "file-read-metadata";

const RULE: &str = "it must be `(allow OPERATION... FILTER...)`, or the same with `deny`";
const ENDLESS: &str = "a string in it does not end";
const UNBALANCED: &str = "its parentheses are not balanced";
const WHOLE: &str = "it must not open the whole file system: a filter of files names a path in it, \
                     and a regex begins with one, as in `^/opt/`, and has no `|`";

/// Filters but for those of paths and those that hold others.
const FILTERS: [&str; 51] = [
    "appleevent-destination",
    "control-name",
    "csr",
    "debug-mode",
    "device-conforms-to",
    "device-major",
    "device-minor",
    "entitlement-is-present",
    "entitlement-value",
    "extension",
    "extension-class",
    "file-mode",
    "fsctl-command",
    "global-name",
    "global-name-prefix",
    "global-name-regex",
    "info-type",
    "ioctl-command",
    "iokit-connection",
    "iokit-property",
    "iokit-registry-entry-class",
    "iokit-user-client-class",
    "ipc-posix-name",
    "ipc-posix-name-prefix",
    "ipc-posix-name-regex",
    "kext-bundle-id",
    "local",
    "local-name",
    "local-name-prefix",
    "local-name-regex",
    "notification-name",
    "nvram-variable",
    "preference-domain",
    "preference-domain-prefix",
    "preference-domain-regex",
    "process-attribute",
    "process-name",
    "process-path",
    "remote",
    "right-name",
    "semaphore-owner",
    "signing-identifier",
    "socket-domain",
    "socket-protocol",
    "socket-type",
    "sysctl-name",
    "sysctl-name-prefix",
    "sysctl-name-regex",
    "target",
    "vnode-type",
    "xpc-service-name",
];

/// What a rule does besides. `no-sandbox` would run programs outside of it.
const MODIFIERS: [&str; 5] = ["message", "no-log", "no-report", "report", "send-signal"];

/// Checks a rule.
///
/// # Errors
///
/// What is wrong with it.
pub(super) fn check(rule: &str) -> Result<(), &'static str> {
    let forms = read(rule)?;
    let (verb, rest) = head(&forms).ok_or(RULE)?;
    let mut modifiers = rest.iter().filter_map(Form::modifier);
    modifiers.try_for_each(check_modifier)?;
    let mut rest = rest.iter().filter(|form| form.modifier().is_none()).peekable();
    let mut operations = Vec::new();
    while let Some(word) = rest.peek().and_then(|form| form.word()) {
        operations.push(word);
        rest.next();
    }
    let is_rule = matches!(verb, "allow" | "deny") && !operations.is_empty();
    if !is_rule || !operations.iter().all(|name| is_operation(name)) {
        return Err(RULE);
    }
    let reaches = rest.map(|form| reach(form.list()?)).collect::<Result<Vec<_>, _>>()?;
    let is_of_files = |name: &&str| name.starts_with("file") && *name != HARMLESS;
    let opens_files = operations.iter().any(is_of_files) && all(&reaches) == Reach::Anywhere;
    let is_whole = operations.contains(&"default") || opens_files;
    if verb == "allow" && is_whole { Err(WHOLE) } else { Ok(()) }
}

fn is_operation(name: &str) -> bool {
    let plain = name.strip_suffix('*').unwrap_or(name);
    // The language takes capitals for small letters.
    let is_plain = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    !plain.is_empty() && plain.bytes().all(is_plain)
}

/// `(with MODIFIER ARGUMENT...)`, which may stand anywhere in a rule.
fn check_modifier(forms: &[Form]) -> Result<(), &'static str> {
    let is_known = head(forms).is_some_and(|(name, _)| MODIFIERS.contains(&name));
    let is_plain = forms.iter().all(|form| !matches!(form, Form::List(_)));
    if is_known && is_plain { Ok(()) } else { Err("it does something that is not known here") }
}

/// Which files a filter lets through.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Those of one name, or beneath one.
    Within,
    /// Files anywhere. Filters that are none of files are taken for such.
    Anywhere,
}

/// What filters let through of which one is enough.
fn all(reaches: &[Reach]) -> Reach {
    within(!reaches.is_empty() && !reaches.contains(&Reach::Anywhere))
}

fn within(is_within: bool) -> Reach {
    if is_within { Reach::Within } else { Reach::Anywhere }
}

fn reach((name, given): (&str, &[Form])) -> Result<Reach, &'static str> {
    if given.is_empty() && name != "debug-mode" {
        return Err(RULE);
    }
    let filters =
        || -> Result<Vec<_>, _> { given.iter().map(|form| reach(form.list()?)).collect() };
    let texts = |judge: fn(&str) -> Result<Reach, &'static str>| {
        let reaches: Result<Vec<_>, _> = given.iter().map(|form| judge(form.text()?)).collect();
        reaches.map(|reaches| all(&reaches))
    };
    match name {
        "require-any" => filters().map(|reaches| all(&reaches)),
        "require-all" => filters().map(|reaches| within(reaches.contains(&Reach::Within))),
        "require-not" => filters().map(|_| Reach::Anywhere),
        "literal" | "path-literal" => texts(|text| path(text).map(|_| Reach::Within)),
        "subpath" | "prefix" | "path-prefix" => texts(path),
        "regex" | "path-regex" => texts(|text| Ok(pattern(text))),
        _ if FILTERS.contains(&name) => {
            // What they are given may be filters again.
            let mut lists = given.iter().filter(|form| matches!(form, Form::List(_)));
            lists.try_for_each(|form| reach(form.list()?).map(drop))?;
            Ok(Reach::Anywhere)
        }
        _ => Err("it holds something that is no filter known here"),
    }
}

/// Where a path is, with what is beneath it.
fn path(text: &str) -> Result<Reach, &'static str> {
    if !text.starts_with('/') || text.split('/').any(|part| matches!(part, "." | "..")) {
        return Err("a path in it must be absolute, and without `.` and `..`");
    }
    Ok(within(!text.trim_matches('/').is_empty()))
}

/// Where is what a regex matches, as far as its beginning tells.
fn pattern(regex: &str) -> Reach {
    let Some(rest) = regex.strip_prefix("^/") else { return Reach::Anywhere };
    let after = rest.trim_start_matches(|next: char| next.is_ascii_alphanumeric());
    // The last of these may be there as often as not.
    let is_last_sure = !after.starts_with(['*', '?', '{']);
    let sure = (rest.len() - after.len()).saturating_sub(usize::from(!is_last_sure));
    within(sure > 0 && !regex.contains('|'))
}

/// A word, a string or a list of those.
enum Form {
    Word(String),
    Text(String),
    List(Vec<Self>),
}

impl Form {
    fn word(&self) -> Option<&str> {
        if let Self::Word(word) = self { Some(word) } else { None }
    }

    fn text(&self) -> Result<&str, &'static str> {
        if let Self::Text(text) = self { Ok(text) } else { Err("a path in it must be a string") }
    }

    /// What follows in a list that begins with `with`.
    fn modifier(&self) -> Option<&[Self]> {
        self.list().ok().filter(|(name, _)| *name == "with").map(|(_, rest)| rest)
    }

    /// The word that a list begins with, and what follows.
    fn list(&self) -> Result<(&str, &[Self]), &'static str> {
        let forms = if let Self::List(forms) = self { Some(forms) } else { None };
        forms.and_then(|forms| head(forms)).ok_or(RULE)
    }
}

fn head(forms: &[Form]) -> Option<(&str, &[Form])> {
    let (first, rest) = forms.split_first()?;
    Some((first.word()?, rest))
}

/// The forms of the one list that a rule is.
fn read(rule: &str) -> Result<Vec<Form>, &'static str> {
    if !rule.starts_with('(') {
        return Err("it must start with `(`");
    }
    let mut characters = rule.chars().peekable();
    let (mut open, mut whole): (Vec<Vec<Form>>, _) = (Vec::new(), None);
    while let Some(character) = characters.next() {
        let form = match character {
            ' ' | '\t' | '\n' | '\r' => continue,
            ';' => return Err("it must not hold a comment"),
            '\0' => return Err("it must not hold a NUL"),
            _ if whole.is_some() => return Err("it must be one rule"),
            '(' if open.len() == MOST_LEVELS => return Err("its filters are too deep"),
            '(' => {
                open.push(Vec::new());
                continue;
            }
            ')' => Form::List(open.pop().ok_or(UNBALANCED)?),
            '"' => Form::Text(text(&mut characters)?),
            '#' if characters.next_if_eq(&'"').is_some() => Form::Text(raw(&mut characters)?),
            start => Form::Word(word(start, &mut characters)?),
        };
        match (open.last_mut(), form) {
            (Some(above), form) => above.push(form),
            (None, Form::List(forms)) => whole = Some(forms),
            (None, _) => return Err("it must be one rule"),
        }
    }
    whole.ok_or(UNBALANCED)
}

/// A string from its first character on. Only what means the same to every reader is taken.
fn text(characters: &mut Peekable<Chars<'_>>) -> Result<String, &'static str> {
    let mut text = String::new();
    loop {
        match characters.next().ok_or(ENDLESS)? {
            '"' => return Ok(text),
            '\\' => {
                let escaped = characters.next().ok_or(ENDLESS)?;
                if !matches!(escaped, '"' | '\\') {
                    return Err("a string in it has another escape than `\\\"` and `\\\\`");
                }
                text.push(escaped);
            }
            '\0' => return Err("it must not hold a NUL"),
            plain => text.push(plain),
        }
    }
}

/// A string in which nothing is escaped, for regexes.
fn raw(characters: &mut Peekable<Chars<'_>>) -> Result<String, &'static str> {
    let mut text = String::new();
    loop {
        match characters.next().ok_or(ENDLESS)? {
            '"' if text.ends_with('\\') => return Err("a regex in it has an escaped quote"),
            '"' => return Ok(text),
            '\0' => return Err("it must not hold a NUL"),
            plain => text.push(plain),
        }
    }
}

/// A name or number.
fn word(start: char, characters: &mut Peekable<Chars<'_>>) -> Result<String, &'static str> {
    let is_of_words = |next: &char| next.is_ascii_alphanumeric() || "*-_.:+".contains(*next);
    let mut word = String::from(start);
    while let Some(next) = characters.next_if(is_of_words) {
        word.push(next);
    }
    let is_ended = characters.peek().is_none_or(|next| " \t\n\r()".contains(*next));
    if is_of_words(&start) && is_ended {
        Ok(word)
    } else {
        Err("it holds what is neither a name nor a string")
    }
}
