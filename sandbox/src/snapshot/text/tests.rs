use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufWriter, Seek as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::*;
use crate::snapshot::entry::EntryRecord;
use crate::snapshot::exclusion::ExclusionConfig;
use crate::snapshot::hash::ContentHash;
use crate::snapshot::key::Key;
use crate::snapshot::quick;
use crate::snapshot::record::{Lines, Record};
use crate::snapshot::roots::Root;
use crate::snapshot::seal::{self, Body};
use crate::snapshot::shared::Shared;
use crate::snapshot::store::Content;
use crate::snapshot::tree::{Attributes, Entry, Identity, Mtime};
use crate::snapshot::walk::Found;

/// A file with a name that looks like the text around it, and whatever else may be known of one.
fn node(number: u64) -> Node {
    let odd = ["plain", "a\n  },\nb", "\"files\": {", "\u{fc}, }", "a\\\t\u{7f}", "0\":{"];
    let small = u32::try_from(number).unwrap();
    let name = format!("/root/{}/{number}", odd[usize::try_from(number).unwrap() % odd.len()]);
    let identity = Identity {
        device: u64::MAX,
        inode: number,
        changed: (-1, 2),
        links: 3,
        is_settled: !number.is_multiple_of(7),
    };
    let attributes = [("user.a".into(), vec![0, 255])];
    let entry = Entry {
        kind: Kind::File {
            hash: ContentHash::of(&[&number.to_le_bytes()]),
            size: number << 40,
            group: number.is_multiple_of(5).then_some(small),
        },
        mode: 0o100_644,
        mtime: Mtime {
            seconds: 3 - number.cast_signed(),
            nanos: (!number.is_multiple_of(11)).then_some(2),
        },
        owner: Some((3, small % 5)),
        attributes: attributes.into_iter().filter(|_| number.is_multiple_of(3)).collect(),
        identity: Some(identity),
    };
    Node { key: Key::new(Path::new(&name)), entry }
}

fn manifest(number: u32, count: u64) -> SnapshotManifest {
    let tree = Tree::new(Shared::all((0..count).map(node).collect()).collect());
    let found = Found { tree, ..Found::default() };
    let key = |name: &[u8]| Key::new(Path::new(OsStr::from_bytes(name)));
    let root = |name| Root { key: key(name), real: "/real/\u{fc} \"".into() };
    let content = |size| Content { hash: ContentHash::of(&[]), size };
    SnapshotManifest {
        roots: Some([&b"root"[..], b"/no \xff text"].map(root).into()),
        rules: Some([(key(b"root/.gitignore"), content(0)), (key(b"\xff"), content(9))].into()),
        ..SnapshotManifest::new(number, 8, ExclusionConfig::default(), found, None)
    }
}

/// A file that holds `text`.
fn file(text: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text).unwrap();
    file.rewind().unwrap();
    file
}

/// The body of a text, if its digest is right.
fn body(text: &[u8]) -> Option<Body> {
    let read = Body::read(&file(text), |_| ()).unwrap();
    assert_eq!(seal::whole(&file(text)).unwrap(), (text.to_vec(), read.is_some()));
    read.map(|read| read.body)
}

/// What is known of an entry once it was written.
fn as_written(node: &Shared) -> Node {
    let mut node = Node::clone(node);
    node.entry.identity = node.entry.identity.filter(|identity| identity.is_settled);
    node
}

#[test]
fn a_text_is_read_as_it_was_written_line_by_line_and_whole() {
    for count in [0, 1, 2, 20_000] {
        let manifest = manifest(7, count);
        let mut text = Vec::new();
        let written = write(&manifest, &mut text).unwrap();
        assert_eq!(body(&text), Some(written.clone()));
        let whole: Record = serde_json::from_slice(&text).unwrap();
        let (quickly, of_text) = quick::read(&file(&text)).unwrap().unwrap();
        assert_eq!(of_text, written);
        for read in [whole.manifest(Vec::new()).unwrap(), quickly] {
            let expected: Vec<_> = manifest.tree.nodes().iter().map(as_written).collect();
            assert!(read.tree.nodes().iter().map(Deref::deref).eq(&expected));
            assert_eq!(read.merkle_root, manifest.merkle_root);
            assert_eq!((&read.roots, &read.rules), (&manifest.roots, &manifest.rules));
        }
        for place in [10, text.len() / 2, text.len() - 20] {
            let mut changed = text.clone();
            changed[place] ^= 1;
            assert_eq!(body(&changed), None);
            assert_eq!(body(&text[..place]), None);
        }
    }
}

/// A manifest of these files, written and read again.
fn read_back(files: Vec<Node>) -> (Vec<u8>, SnapshotManifest) {
    let tree = Tree::new(Shared::all(files).collect());
    let found = Found { tree, ..Found::default() };
    let manifest = SnapshotManifest::new(1, 8, ExclusionConfig::default(), found, None);
    let mut text = Vec::new();
    write(&manifest, &mut text).unwrap();
    let path = tempfile::NamedTempFile::new().unwrap();
    path.as_file().write_all(&text).unwrap();
    let (read, _) = crate::snapshot::record::read(path.path()).unwrap();
    let expected: Vec<_> = manifest.tree.nodes().iter().map(as_written).collect();
    assert!(read.tree.nodes().iter().map(Deref::deref).eq(&expected));
    (text, read)
}

#[test]
fn a_line_is_read_whole_wherever_a_part_ends() {
    let files = |padding: usize| {
        let mut files: Vec<_> = (0..5000).map(node).collect();
        files[0].key = Key::new(Path::new(&format!("/a{}", "a".repeat(padding))));
        files
    };
    let (text, _) = read_back(files(0));
    let body = &text[body(&text).unwrap().begin..];
    let line = memchr::memrchr(b'\n', &body[..seal::PART - 1]).unwrap();
    for place in [seal::PART - 1, seal::PART, seal::PART + 1] {
        let (text, _) = read_back(files(place - line));
        assert_eq!(text[self::body(&text).unwrap().begin + place], b'\n');
    }
}

/// A text of several parts, and a file that holds it.
fn long_text() -> (Vec<u8>, File) {
    let mut text = Vec::new();
    write(&manifest(9, 5000), &mut text).unwrap();
    let file = file(&text);
    (text, file)
}

#[test]
fn what_is_read_beyond_a_part_is_what_is_hashed_as_the_next() {
    let (text, file) = long_text();
    let place = body(&text).unwrap().begin + seal::PART;
    let put = |byte| file.write_all_at(&[byte], place as u64).unwrap();
    // The parts are read one after the other, and the text becomes what it was between two.
    let one_by_one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    for (before, is_right) in [(text[place], true), (text[place] ^ 1, false)] {
        put(before);
        let read = one_by_one.install(|| seal::Body::read(&file, |_| put(text[place])));
        assert_eq!(read.unwrap().is_some(), is_right);
    }
}

#[test]
fn nothing_is_looked_at_in_a_text_that_does_not_end_in_a_digest() {
    let (text, file) = long_text();
    file.set_len(text.len() as u64 - 1).unwrap();
    let look = |_: seal::Part<'_>| unreachable!("it has no digest");
    assert!(seal::Body::read(&file, look).unwrap().is_none());
}

#[test]
fn lines_that_are_longer_than_is_read_ahead_are_read_by_the_parser() {
    let long = |number| {
        let mut node = node(number);
        let value = vec![u8::try_from(number).unwrap(); 60_000];
        node.entry.attributes = [("user.long".into(), value)].into_iter().collect();
        node
    };
    read_back((0..40).map(long).collect());
}

#[test]
fn a_body_that_is_copied_makes_the_text_that_would_be_written() {
    let directory = tempfile::tempdir().unwrap();
    let (earlier, later) = (manifest(9, 5000), manifest(10, 5000));
    let path = directory.path().join("earlier");
    let mut text = Vec::new();
    let body = write(&earlier, &mut text).unwrap();
    File::create(&path).unwrap().write_all(&text).unwrap();
    let copied = directory.path().join("later");
    let file = File::create(&copied).unwrap();
    let mut out = BufWriter::new(&file);
    let of_copy = seal::copy(&head(&later), &body, &File::open(&path).unwrap(), &mut out).unwrap();
    drop(out);
    let mut expected = Vec::new();
    assert_eq!(write(&later, &mut expected).unwrap(), of_copy);
    assert!(std::fs::read(&copied).unwrap() == expected);
    assert_eq!(self::body(&expected), Some(of_copy));

    // One that has become shorter is not copied, and one that was changed has no digest.
    let mut out = BufWriter::new(&file);
    File::options().write(true).open(&path).unwrap().set_len(1000).unwrap();
    seal::copy(&head(&later), &body, &File::open(&path).unwrap(), &mut out).unwrap_err();
    text[1000] ^= 1;
    std::fs::write(&path, &text).unwrap();
    let file = File::create(&copied).unwrap();
    let mut out = BufWriter::new(&file);
    seal::copy(&head(&later), &body, &File::open(&path).unwrap(), &mut out).unwrap();
    drop(out);
    assert_eq!(self::body(&std::fs::read(&copied).unwrap()), None);
}

/// The file in a line by the JSON parser.
fn parsed(line: &[u8]) -> Option<Node> {
    let lines: Lines<EntryRecord> = serde_json::from_slice(&[b"{", line, b"}"].concat()).ok()?;
    let [(key, record)] = <[_; 1]>::try_from(lines.0).ok()?;
    record.file(None).map(|entry| Node { key, entry })
}

/// The form of a line is that of a file without attributes.
#[test]
fn a_line_means_the_same_to_both_readers_whatever_is_changed_in_it() {
    let attributes = Attributes::new();
    let entry = Entry { attributes, ..node(10).entry };
    let mut line = Text::default();
    line.raw(b"    \"/root/a\": ");
    line.json(&EntryRecord::new(&entry, (0, 0)));
    let quickly = |line: &[u8]| {
        let mut nodes = Vec::new();
        quick::read_all(&mut vec![quick::Line::new(line)?], &mut nodes)?;
        nodes.pop()
    };
    assert_eq!(quickly(&line.0).unwrap().entry.owner, entry.owner);
    let mut understood = 0;
    for index in 0..line.0.len() {
        for byte in 0..=u8::MAX {
            for is_replaced in [false, true] {
                let mut changed = line.0.clone();
                changed.splice(index..index + usize::from(is_replaced), [byte]);
                if let Some(node) = quickly(&changed) {
                    assert_eq!(Some(node), parsed(&changed));
                    understood += 1;
                }
            }
        }
    }
    assert!(understood > 1000, "{understood}");
}

/// What may be pushed to make the same text again: its body without the digest.
fn unsealed(manifest: &SnapshotManifest) -> String {
    let mut text = Vec::new();
    let written = write(manifest, &mut text).unwrap();
    let end = memchr::memmem::rfind(&text, b"    \"digest\"").unwrap();
    String::from_utf8(text[written.begin..end].to_vec()).unwrap()
}

#[test]
fn what_is_no_json_is_none_quickly_either_though_its_digest_is_right() {
    let manifest = manifest(1, 600);
    let body_text = unsealed(&manifest);
    let line = body_text.lines().nth(300).unwrap();
    for (from, to) in [
        (line, line.trim_end_matches(',')),
        (line, &format!("{line},")),
        (line, &format!("{line}\n,")),
        ("\n  },\n", ",\n  },\n"),
    ] {
        let mut text = Vec::new();
        let mut sealed = Sealed::new(head(&manifest), &mut text).unwrap();
        sealed.push(body_text.replacen(from, to, 1).as_bytes()).unwrap();
        let sealed = sealed.seal().unwrap();
        assert_eq!(body(&text), Some(sealed.clone()));
        assert!(quick::read(&file(&text)).unwrap().is_none(), "{to}");
        assert!(serde_json::from_slice::<Record>(&text).is_err(), "{to}");
    }
}

#[test]
fn files_that_stand_elsewhere_than_they_seem_to_are_read_as_any_parser_reads_them() {
    let manifest = manifest(1, 6);
    // The files become a part of what is passed over.
    let begin = String::from_utf8(head(&manifest)).unwrap().replacen(
        "\"files\"",
        "\"x\": {\n  \"files\"",
        1,
    );
    let body =
        unsealed(&manifest).replacen("\n  },\n", "\n  },\n  \"y\": 1},\n  \"files\": {},\n", 1);
    let path = tempfile::NamedTempFile::new().unwrap();
    let mut out = BufWriter::new(path.as_file());
    let mut sealed = Sealed::new(begin.into_bytes(), &mut out).unwrap();
    sealed.push(body.as_bytes()).unwrap();
    sealed.seal().unwrap();
    drop(out);
    let (read, _) = crate::snapshot::record::read(path.path()).unwrap();
    assert_eq!(read.files().count(), 0);
}
