//! Sessions that were damaged or forged: said so, before anything is changed.

use std::fs;
use std::path::PathBuf;

use nono_sandbox::snapshot::SnapshotError;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::tree::describe;
use crate::{Session, keep_going};

/// Two files and their baseline; both are changed after it.
fn changed() -> Session {
    let session = Session::new(|root| {
        fs::write(root.join("a"), "first").unwrap();
        fs::write(root.join("b"), "second").unwrap();
    });
    session.baseline();
    fs::write(session.path("a"), "changed").unwrap();
    fs::write(session.path("b"), "changed").unwrap();
    session
}

/// The object that holds `content`.
pub(crate) fn object(session: &Session, content: &str) -> PathBuf {
    let directories = fs::read_dir(session.session("objects")).unwrap();
    let files = directories.flat_map(|entry| fs::read_dir(entry.unwrap().path()).unwrap());
    let mut paths = files.map(|entry| entry.unwrap().path());
    paths.find(|path| fs::read_to_string(path).unwrap() == content).unwrap()
}

fn nothing_is_restored(session: &Session) {
    let before = describe(&session.path(""));
    let error = session.manager.restore_to(0, &keep_going).unwrap_err();
    assert!(matches!(error, SnapshotError::Objects { count: 1, .. }), "{error}");
    assert_eq!(describe(&session.path("")), before);
}

#[test]
fn a_damaged_object_keeps_everything_as_it_is() {
    let session = changed();
    fs::write(object(&session, "second"), "forged").unwrap();
    nothing_is_restored(&session);
}

#[test]
fn a_missing_object_keeps_everything_as_it_is() {
    let session = changed();
    fs::remove_file(object(&session, "first")).unwrap();
    nothing_is_restored(&session);
}

#[test]
fn an_object_that_is_a_link_is_not_followed() {
    let session = changed();
    let path = object(&session, "first");
    let elsewhere = session.directory.path().join("elsewhere");
    fs::rename(&path, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    nothing_is_restored(&session);
}

#[test]
fn a_pipe_in_the_place_of_an_object_or_a_manifest_is_not_waited_for() {
    let session = changed();
    let pipe = |path: &PathBuf| {
        fs::remove_file(path).unwrap();
        mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0).unwrap();
    };
    pipe(&object(&session, "first"));
    nothing_is_restored(&session);
    pipe(&session.session("snapshots/000.json"));
    let error = session.manager.restore_to(0, &keep_going).unwrap_err();
    assert!(matches!(error, SnapshotError::ManifestFormat { .. }), "{error}");
}

#[test]
fn a_manifest_that_is_a_link_is_not_followed() {
    let session = changed();
    let path = session.session("snapshots/000.json");
    let elsewhere = session.directory.path().join("elsewhere");
    fs::rename(&path, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    let error = session.manager.restore_to(0, &keep_going).unwrap_err();
    assert!(matches!(error, SnapshotError::Io { .. }), "{error}");
}

#[test]
fn what_lies_where_a_manifest_is_written_is_neither_followed_nor_waited_for() {
    let session = changed();
    let victim = session.directory.path().join("victim");
    fs::write(&victim, "kept").unwrap();
    std::os::unix::fs::symlink(&victim, session.session("snapshots/001.json.new")).unwrap();
    let pipe = session.session("changes/001.json.new");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    session.incremental();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "kept");
    assert!(fs::symlink_metadata(session.session("snapshots/001.json")).unwrap().is_file());
}

#[test]
fn a_changed_manifest_is_refused() {
    let forgeries = [
        ("\"mtime\":1", "\"mtime\":2", "digest"),
        ("\"permissions\":33", "\"permissions\":34", "digest"),
        // Neither without the digest nor in another form.
        ("\"digest\"", "\"other\"", "digest"),
        ("\"number\": 0", "\"number\":  0", "digest"),
        ("\"tree\": {", "\"other\": {", "Merkle root"),
    ];
    for (from, to, part) in forgeries {
        let session = changed();
        let path = session.session("snapshots/000.json");
        let mut text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        if part == "Merkle root" {
            // A reader that does not know our fields has the root alone.
            let hash = text.split("\"hash\":\"").nth(1).unwrap()[..64].to_owned();
            text = text.replacen(&hash, &"0".repeat(64), 1);
        }
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        let error = session.manager.restore_to(0, &keep_going).unwrap_err();
        let is_named =
            matches!(&error, SnapshotError::ManifestChanged { what, .. } if *what == part);
        assert!(is_named, "{from}: {error}");
    }
}

#[test]
fn a_manifest_that_has_a_name_twice_is_refused() {
    let session = changed();
    let path = session.path("a").display().to_string();
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let manifest = format!(
        r#"{{"number": 0, "timestamp": "1", "parent": null, "symlinks": ["{path}"],
            "files": {{"{path}": {{"hash": "{empty}", "size": 0, "mtime": 1, "permissions": 33188}}}},
            "merkle_root": "{empty}"}}"#
    );
    fs::write(session.session("snapshots/000.json"), manifest).unwrap();
    let error = session.manager.restore_to(0, &keep_going).unwrap_err();
    let is_named = matches!(&error, SnapshotError::ManifestChanged { what: "form", .. });
    assert!(is_named, "{error}");
}

#[test]
fn a_manifest_that_reaches_out_is_refused() {
    let strays = ["/etc/passwd", "TRACKED/../outside", "relative", "TRACKED//a", "TRACKEDx/a"];
    for name in strays {
        let session = changed();
        let path = session.session("snapshots/000.json");
        let tracked = session.directory.path().join("tracked").display().to_string();
        let name = name.replace("TRACKED", &tracked);
        let manifest = format!(
            r#"{{"number": 0, "timestamp": "1", "parent": null, "files": {{}},
                "symlinks": ["{name}"], "merkle_root":
                "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}}"#
        );
        fs::write(&path, manifest).unwrap();
        let error = session.manager.restore_to(0, &keep_going).unwrap_err();
        assert!(matches!(error, SnapshotError::Outside { .. }), "{error}");
    }
}

#[test]
fn what_an_interrupted_restore_left_goes_with_the_next() {
    let session = changed();
    fs::write(session.path(".nono-restore-1-0"), "half").unwrap();
    assert!(session.incremental().iter().all(|(name, _)| !name.starts_with('.')));
    let gone = (".nono-restore-1-0".to_owned(), "deleted");
    assert!(session.restore().contains(&gone));
    assert!(!session.path(".nono-restore-1-0").exists());
}

#[test]
fn what_a_program_names_as_a_restore_names_its_files_is_tracked_as_all_else() {
    let session = changed();
    fs::write(session.path(".nono-restore-notes"), "kept").unwrap();
    session.incremental();
    for name in [".nono-restore-1-0", ".nono-restore-x"] {
        fs::create_dir_all(session.path(name).join("deep")).unwrap();
        fs::write(session.path(name).join("deep/since"), "").unwrap();
    }
    let all = [".nono-restore-1-0/deep/since", ".nono-restore-x/deep/since"];
    assert_eq!(session.incremental(), all.map(|name| (name.to_owned(), "created")));
    let changes = session.manager.restore_to(1, &keep_going).unwrap();
    assert_eq!(session.named(&changes), all.map(|name| (name.to_owned(), "deleted")));
    assert!([".nono-restore-1-0", ".nono-restore-x"].iter().all(|n| !session.path(n).exists()));
    assert_eq!(fs::read_to_string(session.path(".nono-restore-notes")).unwrap(), "kept");
}

#[test]
fn an_object_that_was_damaged_is_mended_by_the_next_snapshot_that_reads_its_file() {
    let session = changed();
    let path = object(&session, "second");
    // As long as it was, as after a power cut.
    fs::write(&path, [0; 6]).unwrap();
    fs::write(session.path("b"), "second").unwrap();
    session.incremental();
    assert_eq!(fs::read_to_string(&path).unwrap(), "second");
    session.manager.restore_to(1, &keep_going).unwrap();
}

#[test]
fn changes_that_came_to_no_snapshot_are_not_those_of_the_next() {
    let session = changed();
    let in_the_way = session.session("snapshots/001.json.new");
    fs::create_dir(&in_the_way).unwrap();
    session.manager.create_incremental(&keep_going).unwrap_err();
    fs::remove_dir(&in_the_way).unwrap();
    session.restore();
    assert_eq!(session.incremental(), []);
    assert!(!session.session("changes/001.json").exists());
}
