//! The file changes while the process runs.

use std::path::Path;
use std::time::Duration;

use super::*;

struct File {
    dir: tempfile::TempDir,
}

impl File {
    fn new(text: &str) -> Self {
        let file = Self { dir: tempfile::tempdir().unwrap() };
        file.replace(text.as_bytes());
        file
    }
    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("trust.pem")
    }
    fn replace(&self, bytes: &[u8]) {
        std::fs::write(self.path(), bytes).unwrap();
    }
    fn open(&self, policy: Policy) -> std::sync::Arc<Verifier> {
        Verifier::open(policy, Some(&self.path())).unwrap().unwrap()
    }
}

#[test]
fn a_revocation_counts_from_the_next_look() {
    let (hash, hello) = hello();
    let author = Author::new("a");
    let file = File::new(&author.trusted(""));
    let verifier = file.open(Policy::Require);
    let signature = author.sign(hash, &hello);
    let before = verifier.verify(hash, Some(&hello), Some(&signature)).unwrap();
    file.replace(author.trusted("Revoked: yes").as_bytes());
    verifier.refresh();
    assert_ne!(verifier.generation(), before.generation);
    assert_eq!(verifier.verify(hash, Some(&hello), Some(&signature)).unwrap_err().kind(), "revoked");
}

#[test]
fn a_broken_file_changes_nothing_and_a_good_one_after_it_counts() {
    let (hash, hello) = hello();
    let (author, next) = (Author::new("a"), Author::new("b"));
    let file = File::new(&author.trusted(""));
    let verifier = file.open(Policy::Require);
    let signature = author.sign(hash, &hello);
    let half = author.trusted("");
    let half = half.get(..half.len() / 2).unwrap();
    for garbage in [&b""[..], b"garbage", b"\xff\xfe", half.as_bytes(), &vec![b'#'; (1 << 20) + 1]] {
        file.replace(garbage);
        verifier.refresh();
        verifier.refresh();
        assert_eq!(verifier.generation(), 1);
        assert!(verifier.verify(hash, Some(&hello), Some(&signature)).is_ok());
    }
    std::fs::remove_file(file.path()).unwrap();
    verifier.refresh();
    assert!(verifier.verify(hash, Some(&hello), Some(&signature)).is_ok(), "gone");
    file.replace(author.trusted("# the same keys").as_bytes());
    verifier.refresh();
    assert_eq!(verifier.generation(), 1, "a comment is no change");
    file.replace(next.trusted("").as_bytes());
    verifier.refresh();
    assert_eq!(verifier.generation(), 2);
    assert_eq!(verifier.verify(hash, Some(&hello), Some(&signature)).unwrap_err().kind(), "unknown_key");
}

#[test]
fn a_file_behind_a_link_is_followed_when_the_link_moves() {
    // As orchestrators mount changing files.
    let author = Author::new("a");
    let file = File::new(&author.trusted(""));
    let (link, revoked) = (file.dir.path().join("link"), file.dir.path().join("revoked"));
    std::os::unix::fs::symlink(file.path(), &link).unwrap();
    let verifier = Verifier::open(Policy::Require, Some(&link)).unwrap().unwrap();
    std::fs::write(&revoked, author.trusted("Revoked: yes")).unwrap();
    std::os::unix::fs::symlink(&revoked, file.dir.path().join("next")).unwrap();
    std::fs::rename(file.dir.path().join("next"), &link).unwrap();
    verifier.refresh();
    assert_eq!(verifier.generation(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_file_is_looked_at_each_second_as_long_as_somebody_has_the_verifier() {
    let author = Author::new("a");
    let file = File::new(&author.trusted(""));
    let verifier = file.open(Policy::Require);
    verifier.watch();
    file.replace(author.trusted("Revoked: yes").as_bytes());
    tokio::time::timeout(Duration::from_secs(5), async {
        while verifier.generation() == 1 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .unwrap();
    let alive = std::sync::Arc::downgrade(&verifier);
    drop(verifier);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(alive.upgrade().is_none());
}

#[test]
fn what_cannot_be_checked_is_a_start_error() {
    let open = |policy, path: Option<&Path>| Verifier::open(policy, path);
    assert!(open(Policy::Off, Some(Path::new("/nowhere"))).unwrap().is_none());
    assert!(open(Policy::Off, None).unwrap().is_none());
    assert!(matches!(open(Policy::Require, None), Err(TrustError::NoTrustBundle)));
    assert_eq!(open(Policy::Warn, None).unwrap().unwrap().keys(), 0);
    let file = File::new("garbage");
    let error = open(Policy::Warn, Some(&file.path())).unwrap_err();
    assert!(matches!(error, TrustError::Syntax { .. }), "{error}");
    assert!(crate::chain(&error).contains("line 1"), "{}", crate::chain(&error));
    for path in [file.dir.path().join("absent"), file.dir.path().to_owned(), "/dev/zero".into()] {
        let error = open(Policy::Require, Some(&path)).unwrap_err();
        assert!(
            matches!(error, TrustError::Read { .. }) && error.to_string().contains("SIGNING_TRUST_BUNDLE")
        );
    }
    for (word, policy) in [("off", Policy::Off), ("warn", Policy::Warn), ("require", Policy::Require)] {
        assert_eq!(word.parse::<Policy>().unwrap(), policy);
        assert_eq!(policy.as_str(), word);
    }
    assert!(matches!("on".parse::<Policy>(), Err(TrustError::Policy)));
}
