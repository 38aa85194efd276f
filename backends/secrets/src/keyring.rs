//! The keys with which envelopes are sealed, and the file that holds them.
//!
//! ```text
//! # comments and blank lines are allowed
//! longshore-secret-key-v1 2026-11 tq3k...base64 of 32 bytes...=
//! longshore-secret-key-v1 2026-05 9fJx...
//! ```
//! The first key seals, both open. A rotation: add the new key as the second line and restart every worker and shim;
//! swap the lines and restart again; when the last envelope of the old key has expired or been sealed anew, remove it.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

/// How each line of a key begins.
const MARK: &str = "longshore-secret-key-v1";
/// Lines of a key file, comments and blank ones included.
const MAX_LINES: usize = 8;
/// Keys of a file: the one that seals, and its predecessor or successor.
const MAX_KEYS: usize = 2;
/// Bytes of a key file; two keys and six comments are far below.
const MAX_FILE: u64 = 4096;
/// Characters of a key's id.
pub(crate) const MAX_ID: usize = 64;

/// One key, or two during a rotation: the first seals, all open.
#[derive(Clone)]
pub struct KeyRing {
    keys: Vec<Key>,
}

#[derive(Clone)]
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) bytes: Zeroizing<[u8; 32]>,
}

/// Why there are no keys. Neither a line's text nor a key is ever repeated.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("the key file cannot be read")]
    Read(#[source] io::Error),
    /// The file cannot be written.
    #[error("the key file cannot be written")]
    Write(#[source] io::Error),
    /// There is one already.
    #[error("the key file exists already")]
    Exists,
    /// A folder, a pipe, a device.
    #[error("the key file is no file")]
    NoFile,
    /// Others may read it.
    #[error("the key file has mode {mode:03o}: nobody but its owner may read it (chmod 600)")]
    Open {
        /// Its permission bits.
        mode: u32,
    },
    /// Over 4 KiB.
    #[error("the key file is over {MAX_FILE} bytes")]
    TooLarge,
    /// Too many lines.
    #[error("line {line} of the key file is one too many: {MAX_LINES} lines at most, comments included")]
    Lines {
        /// Counted from 1.
        line: usize,
    },
    /// A line that is none of ours.
    #[error("line {line} of the key file is not `{MARK} <key id> <base64 of 32 bytes>`: {what}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// Which part.
        what: &'static str,
    },
    /// A third key.
    #[error(
        "line {line} of the key file is a third key: two at most, the one that seals and its predecessor"
    )]
    Keys {
        /// Counted from 1.
        line: usize,
    },
    /// Two keys of one id.
    #[error("line {line} of the key file has the id of the key above it")]
    SameId {
        /// Counted from 1.
        line: usize,
    },
    /// Nothing but comments.
    #[error("the key file has no key: `{MARK} <key id> <base64 of 32 bytes>`")]
    Empty,
}

impl KeyRing {
    /// Reads a key file. A symbolic link is followed: mounted secrets are links.
    ///
    /// # Errors
    /// The file is missing, open to others (`mode & 0o077`), or not as it must be.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        // Not blocking: a pipe in place of the file must not hold up the start.
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(KeyError::Read)?;
        // Of the open file, so that nobody can put another one in its place in between.
        let metadata = file.metadata().map_err(KeyError::Read)?;
        if !metadata.is_file() {
            return Err(KeyError::NoFile);
        }
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Open { mode });
        }
        // With its room from the start: growing would leave copies.
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_FILE as usize + 2));
        file.take(MAX_FILE + 1).read_to_end(&mut text).map_err(KeyError::Read)?;
        if text.len() as u64 > MAX_FILE {
            return Err(KeyError::TooLarge);
        }
        Self::parse(&text)
    }

    fn parse(text: &[u8]) -> Result<Self, KeyError> {
        let mut keys: Vec<Key> = Vec::new();
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        for (at, bytes) in text.split(|b| *b == b'\n').enumerate() {
            let line = at + 1;
            if line > MAX_LINES {
                return Err(KeyError::Lines { line });
            }
            let wrong = |what| KeyError::Line { line, what };
            let words = std::str::from_utf8(bytes).map_err(|_| wrong("no text"))?.trim();
            if words.is_empty() || words.starts_with('#') {
                continue;
            }
            let mut words = words.split_ascii_whitespace();
            let (mark, id, key, end) = (words.next(), words.next(), words.next(), words.next());
            if mark != Some(MARK) {
                return Err(wrong("it begins otherwise"));
            }
            let id = id.filter(|id| is_id(id)).ok_or_else(|| wrong("the key id"))?;
            let key = key.and_then(decode_key).ok_or_else(|| wrong("the key"))?;
            if end.is_some() {
                return Err(wrong("something follows the key"));
            }
            if keys.iter().any(|known| known.id == id) {
                return Err(KeyError::SameId { line });
            }
            if keys.len() == MAX_KEYS {
                return Err(KeyError::Keys { line });
            }
            keys.push(Key { id: id.to_owned(), bytes: key });
        }
        if keys.is_empty() { Err(KeyError::Empty) } else { Ok(Self { keys }) }
    }

    /// One new key with a random id.
    pub fn generate() -> Self {
        let id = format!("k{:08x}", rand::random::<u32>());
        Self { keys: vec![Key { id, bytes: Zeroizing::new(rand::random()) }] }
    }

    /// A new key that seals, before the one that sealed so far.
    #[must_use]
    pub fn rotated(&self) -> Self {
        let mut keys = Self::generate().keys;
        keys.extend(self.keys.first().cloned());
        Self { keys }
    }

    /// Writes the keys into a new file (0600), whole or not at all: whoever reads meanwhile sees no half of it.
    ///
    /// # Errors
    /// [`KeyError::Exists`], or the file cannot be written.
    pub fn write_new(&self, path: &Path) -> Result<(), KeyError> {
        let name = path.file_name().ok_or(KeyError::NoFile)?;
        let mut draft = name.to_owned();
        draft.push(format!(".{:016x}", rand::random::<u64>()));
        let draft = path.with_file_name(draft);
        let written = self.write(&draft).and_then(|()| {
            // A link, not a rename: a rename would replace a file that another process has just made.
            std::fs::hard_link(&draft, path)
        });
        // The draft is ours alone; what is left of it after a crash is one more 0600 file.
        let removed = std::fs::remove_file(&draft);
        match written {
            Ok(()) => removed.map_err(KeyError::Write),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(KeyError::Exists),
            Err(error) => Err(KeyError::Write(error)),
        }
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let mut text = Zeroizing::new(String::with_capacity(MAX_FILE as usize));
        text.push_str(
            "# Seals secrets on their way from gateway to worker. The first key seals, all open.\n",
        );
        for key in &self.keys {
            text.push_str(MARK);
            text.push(' ');
            text.push_str(&key.id);
            text.push(' ');
            BASE64.encode_string(*key.bytes, &mut text);
            text.push('\n');
        }
        let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    }

    /// The keys of the file, which is made with a new key if it is not there. Of several processes that make it at the
    /// same time, one does and the others load its key.
    ///
    /// # Errors
    /// As [`Self::load`] and [`Self::write_new`].
    pub fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        match Self::load(path) {
            Err(KeyError::Read(error)) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let ring = Self::generate();
        match ring.write_new(path) {
            Ok(()) => Ok(ring),
            Err(KeyError::Exists) => Self::load(path),
            Err(error) => Err(error),
        }
    }

    /// The id of the key that seals, for the start log.
    pub fn sealing_id(&self) -> &str {
        self.keys.first().map_or("", |key| &key.id)
    }

    /// A key for another purpose from each key, that of the sealing one first. BLAKE3's key derivation: neither key says anything
    /// of the other. `purpose` is a constant of the program that nobody else uses.
    pub fn derive(&self, purpose: &str) -> Vec<Zeroizing<[u8; 32]>> {
        self.keys.iter().map(|key| Zeroizing::new(blake3::derive_key(purpose, &*key.bytes))).collect()
    }

    /// The key that seals.
    pub(crate) fn sealing(&self) -> Option<&Key> {
        self.keys.first()
    }

    /// The key of that id.
    pub(crate) fn key(&self, id: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.id == id)
    }
}

/// Whether a text can be a key's id, and may so be shown.
pub(crate) fn is_id(text: &str) -> bool {
    (1..=MAX_ID).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

fn decode_key(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let decoded = Zeroizing::new(BASE64.decode(text).ok()?);
    let mut bytes = Zeroizing::new([0; 32]);
    if decoded.len() != bytes.len() {
        return None;
    }
    bytes.copy_from_slice(&decoded);
    Some(bytes)
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.id)).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::path::PathBuf;

    use super::*;

    fn file(content: impl AsRef<[u8]>) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        (dir, path)
    }

    fn line(id: &str, byte: u8) -> String {
        format!("{MARK} {id} {}\n", BASE64.encode([byte; 32]))
    }

    #[test]
    fn a_file_holds_one_key_or_two_and_comments() {
        let text = format!("# new\n\n{}\t{}# end", line("b", 2), line("a", 1));
        let (_dir, path) = file(text);
        let ring = KeyRing::load(&path).unwrap();
        assert_eq!(ring.sealing_id(), "b");
        assert_eq!(*ring.key("a").unwrap().bytes, [1; 32]);
        assert!(ring.key("c").is_none());
        assert_eq!(format!("{ring:?}"), r#"["b", "a"]"#);
    }

    #[test]
    fn a_wrong_line_is_named_by_its_number_and_never_quoted() {
        let key = BASE64.encode([0xa5; 32]);
        let nine = format!("{}{}", line("a", 1), "#\n".repeat(8));
        let cases: [(String, &str); 13] = [
            (String::new(), "has no key"),
            ("# nothing\n".to_owned(), "has no key"),
            (format!("{}canary {key}", line("a", 1)), "line 2"),
            (format!("{MARK}\n"), "line 1"),
            (format!("{MARK} {key}\n"), "key id"),
            (format!("{MARK} a/b {key}\n"), "key id"),
            (format!("{MARK} {} {key}\n", "i".repeat(65)), "key id"),
            (format!("{MARK} a {}\n", BASE64.encode([0xa5; 31])), "the key"),
            (format!("{MARK} a canary%%%\n"), "the key"),
            (format!("{MARK} a {key} canary\n"), "follows"),
            (format!("{}{}", line("a", 1), line("a", 2)), "line 2"),
            (format!("{}{}{}", line("a", 1), line("b", 2), line("c", 3)), "third key"),
            (nine, "line 9"),
        ];
        for (text, words) in cases {
            let (_dir, path) = file(&text);
            let error = KeyRing::load(&path).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
            assert!(!error.contains("canary") && !error.contains(&key), "{error}");
        }
        let (_dir, path) = file([b"# \xff\n".as_slice(), line("a", 1).as_bytes()].concat());
        assert!(matches!(KeyRing::load(&path), Err(KeyError::Line { line: 1, .. })));
        let (_dir, path) = file("#".repeat(4097));
        assert!(matches!(KeyRing::load(&path), Err(KeyError::TooLarge)));
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let (_dir, path) = file(line("a", 1));
        for mode in [0o640, 0o604, 0o660, 0o644, 0o610] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = KeyRing::load(&path).unwrap_err();
            assert!(matches!(error, KeyError::Open { mode: seen } if seen == mode), "{error}");
            assert!(error.to_string().contains(&format!("{mode:o}")));
        }
        std::fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        KeyRing::load(&path).unwrap();
    }

    #[test]
    fn a_link_is_followed_and_what_is_no_file_is_refused() {
        let (dir, path) = file(line("a", 1));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(KeyRing::load(&link).unwrap().sealing_id(), "a");
        assert!(matches!(KeyRing::load(dir.path()), Err(KeyError::NoFile)));
        assert!(matches!(KeyRing::load(&dir.path().join("none")), Err(KeyError::Read(_))));
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(matches!(KeyRing::load(&pipe), Err(KeyError::NoFile)));
    }

    #[test]
    fn a_new_file_is_private_whole_and_replaces_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let ring = KeyRing::generate().rotated();
        ring.write_new(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let loaded = KeyRing::load(&path).unwrap();
        assert_eq!(loaded.keys.len(), 2);
        assert_eq!((loaded.sealing_id(), *loaded.keys[1].bytes), (ring.sealing_id(), *ring.keys[1].bytes));
        assert!(matches!(KeyRing::generate().write_new(&path), Err(KeyError::Exists)));
        assert_eq!(KeyRing::load(&path).unwrap().sealing_id(), ring.sealing_id());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no draft is left");
        assert!(matches!(ring.write_new(&dir.path().join("none/keys")), Err(KeyError::Write(_))));
    }

    #[test]
    fn of_many_that_make_the_file_one_wins_and_all_have_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let rings: Vec<KeyRing> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..16).map(|_| scope.spawn(|| KeyRing::load_or_create(&path).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let written = KeyRing::load(&path).unwrap();
        for ring in rings {
            assert_eq!(*ring.keys[0].bytes, *written.keys[0].bytes);
        }
    }
}
