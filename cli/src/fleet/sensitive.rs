//! Values that must not be on a command line, which every user of the machine can read and every shell remembers: they come from a file, the
//! standard input or a variable.

use std::io::Read as _;

use crate::exit::Failure;

/// A secret is a password or a key, not a document: the store's record of an install holds 128 KiB in all.
const MAX_BYTES: u64 = 128 << 10;

/// Reads the value that `source` names: `@FILE`, `-` (standard input) or `env:NAME`. One line end at the end is left out, as editors and `echo`
/// add it.
///
/// # Errors
/// The source is a plain value, cannot be read, is empty, too large or no text. No error holds the value.
pub(super) fn read(what: &str, source: &str) -> Result<String, Failure> {
    let text = if source == "-" {
        limited(what, "the standard input", std::io::stdin().lock())?
    } else if let Some(path) = source.strip_prefix('@') {
        let file = std::fs::File::open(path);
        let file = file.map_err(|error| Failure::usage(format!("{what}: {path} cannot be read: {error}")))?;
        limited(what, path, file)?
    } else if let Some(name) = source.strip_prefix("env:") {
        std::env::var(name)
            .map_err(|error| Failure::usage(format!("{what}: the variable {name}: {error}")))?
    } else {
        return Err(Failure::usage(format!(
            "{what}: a value on the command line is seen by everybody on this machine"
        ))
        .hint("give it as @FILE, as - (standard input), or as env:NAME (a variable)"));
    };
    let text = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if text.is_empty() {
        return Err(Failure::usage(format!("{what}: the value is empty")));
    }
    Ok(text.to_owned())
}

fn limited(what: &str, origin: &str, reader: impl std::io::Read) -> Result<String, Failure> {
    let mut text = String::new();
    reader
        .take(MAX_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|error| Failure::usage(format!("{what}: {origin} cannot be read as text: {error}")))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(Failure::usage(format!("{what}: {origin} is over {} KiB", MAX_BYTES >> 10)));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_the_command_line_is_refused_and_not_repeated() {
        let failure = read("the secret key", "hunter2").unwrap_err();
        assert!(failure.message.contains("everybody on this machine"));
        assert!(!format!("{failure:?}").contains("hunter2"));
    }

    #[test]
    fn a_file_s_last_line_end_is_left_out_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let file = |content: &[u8]| {
            let path = dir.path().join("x");
            std::fs::write(&path, content).unwrap();
            read("the secret k", &format!("@{}", path.display()))
        };
        assert_eq!(file(b"a b\n").unwrap(), "a b");
        assert_eq!(file(b"a\r\n").unwrap(), "a");
        assert_eq!(file(b"a\n\n").unwrap(), "a\n");
        for bad in [&b""[..], b"\n", b"\xff\xfe", &vec![b'x'; (MAX_BYTES + 1) as usize]] {
            assert!(file(bad).is_err());
        }
        assert!(read("x", "@/no/such/file").unwrap_err().message.contains("/no/such/file"));
    }

    #[test]
    fn a_variable_that_is_not_set_is_named() {
        assert!(read("x", "env:LONGSHORE_NO_SUCH").unwrap_err().message.contains("LONGSHORE_NO_SUCH"));
        assert!(!read("x", "env:PATH").unwrap().is_empty());
    }
}
