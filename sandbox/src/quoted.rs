//! Paths as Python writes them, so that what is suggested can be copied into a program.

use std::fmt::Write as _;
use std::path::Path;

/// A literal of Python that names a path. Bytes that are no UTF-8 are written as `os.fsdecode` has
/// them.
pub(crate) fn quoted(path: &Path) -> String {
    let mut text = String::from('"');
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        chunk.valid().chars().for_each(|character| push(&mut text, character));
        for byte in chunk.invalid() {
            // Writing to a `String` cannot fail.
            let _ = write!(text, "\\udc{byte:02x}");
        }
    }
    text.push('"');
    text
}

fn push(text: &mut String, character: char) {
    let number = u32::from(character);
    // Rust would write it otherwise than as itself for a reason: it cannot be seen.
    let is_seen = matches!(character, '\'') || character.escape_debug().count() == 1;
    let _ = match character {
        '"' | '\\' => write!(text, "\\{character}"),
        _ if is_seen => write!(text, "{character}"),
        _ if number < 0x100 => write!(text, "\\x{number:02x}"),
        _ if number < 0x1_0000 => write!(text, "\\u{number:04x}"),
        _ => write!(text, "\\U{number:08x}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_written_as_python_reads_it() {
        for (path, literal) in [
            ("/a 'b'", r#""/a 'b'""#),
            ("/a\"b\\", r#""/a\"b\\""#),
            ("/\u{e9}\u{4e2d}", "\"/\u{e9}\u{4e2d}\""),
            ("/\u{1}7\n\u{7f}", r#""/\x017\x0a\x7f""#),
            ("/\u{202e}\u{e0001}", r#""/\u202e\U000e0001""#),
        ] {
            assert_eq!(quoted(Path::new(path)), literal);
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_utf_8_is_written_as_python_has_it() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt as _;

        let path = Path::new(OsStr::from_bytes(b"/a\xff\xe4b"));
        assert_eq!(quoted(path), r#""/a\udcff\udce4b""#);
    }
}
