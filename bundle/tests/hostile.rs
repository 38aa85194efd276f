//! Archives that want to break out, exhaust or deceive; and odd ones that plain tools make.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

use std::io::Write as _;
use std::path::{Path, PathBuf};

use longshore_bundle::ArchiveLimits;
use longshore_bundle::archive::{ArchiveError, Report, Target, UnpackError, pack_files, unpack};
use tar::{EntryType, Header};

/// Writes headers that the tar crate itself refuses to.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn add(mut self, kind: EntryType, name: &[u8], content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o777);
        header.set_size(content.len() as u64);
        let len = name.len().min(100);
        header.as_old_mut().name[..len].copy_from_slice(&name[..len]);
        if kind.is_symlink() || kind.is_hard_link() {
            header.set_link_name("/etc").unwrap();
        }
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, content: &[u8]) -> Self {
        self.add(EntryType::Regular, name.as_bytes(), content)
    }

    /// A PAX header of one record.
    fn pax(self, key: &str, value: &[u8]) -> Self {
        let mut len = key.len() + value.len() + 3;
        while len != len.to_string().len() + key.len() + value.len() + 3 {
            len += 1;
        }
        let mut record = format!("{len} {key}=").into_bytes();
        record.extend_from_slice(value);
        record.push(b'\n');
        self.add(EntryType::XHeader, b"PaxHeaders/x", &record)
    }

    fn tar(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }

    fn zst(self) -> Vec<u8> {
        compress(&self.tar())
    }
}

fn compress(tar: &[u8]) -> Vec<u8> {
    zstd::encode_all(tar, 3).unwrap()
}

/// Unpacks below a folder whose only other content is a canary.
fn try_unpack(archive: &[u8], limits: &ArchiveLimits) -> (Result<Report, UnpackError>, Unpacked) {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    std::fs::create_dir(&out).unwrap();
    std::fs::write(dir.path().join("canary"), "alive").unwrap();
    let target = Target { bundle: &out.join("bundle"), ui: &out.join("ui") };
    let result = unpack(archive, limits, target);
    let mut outside: Vec<PathBuf> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    outside.sort();
    assert_eq!(outside, [dir.path().join("canary"), out.clone()], "nothing is written outside");
    (result, Unpacked { _dir: dir, out })
}

struct Unpacked {
    _dir: tempfile::TempDir,
    out: PathBuf,
}

impl Unpacked {
    fn files(&self) -> Vec<String> {
        fn walk(dir: &Path, base: &Path, found: &mut Vec<String>) {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                let kind = path.symlink_metadata().unwrap().file_type();
                assert!(kind.is_dir() || kind.is_file(), "{path:?} is neither file nor folder");
                if kind.is_dir() {
                    walk(&path, base, found);
                } else {
                    found.push(path.strip_prefix(base).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.out, &self.out, &mut found);
        found.sort();
        found
    }
}

fn refused(archive: &[u8]) -> ArchiveError {
    refused_by(archive, &ArchiveLimits::default())
}

fn refused_by(archive: &[u8], limits: &ArchiveLimits) -> ArchiveError {
    match try_unpack(archive, limits).0 {
        Err(UnpackError::Refused(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn accepted(archive: &[u8]) -> (Report, Unpacked) {
    let (result, unpacked) = try_unpack(archive, &ArchiveLimits::default());
    (result.unwrap(), unpacked)
}

#[test]
fn a_name_with_dot_dot_refuses_the_archive() {
    for name in ["../evil", "ui/../../evil", "a/..", ".hidden/../../evil"] {
        let error = refused(&Tar::default().file("a/ok", b"x").file(name, b"x").zst());
        assert!(matches!(error, ArchiveError::Name { .. }), "{name}: {error}");
    }
}

#[test]
fn an_absolute_name_refuses_the_archive() {
    for name in ["/etc/evil", "//evil", "/"] {
        let error = refused(&Tar::default().file(name, b"x").zst());
        assert!(matches!(error, ArchiveError::Name { problem: "is absolute", .. }), "{name}: {error}");
    }
}

#[test]
fn devices_fifos_and_unknown_kinds_refuse_the_archive() {
    for kind in [b'3', b'4', b'6', b'S', b'V', b'M', b'Z'] {
        for name in ["dev", ".hidden"] {
            let archive = Tar::default().add(EntryType::new(kind), name.as_bytes(), b"").zst();
            let error = refused(&archive);
            assert!(matches!(error, ArchiveError::Special { .. }), "{}: {error}", kind as char);
        }
    }
}

#[test]
fn a_link_is_skipped_and_counted_and_a_file_through_it_stays_inside() {
    let archive = Tar::default()
        .add(EntryType::Symlink, b"a", b"")
        .file("a/evil", b"inside")
        .add(EntryType::Link, b"passwd", b"")
        .zst();
    let (report, unpacked) = accepted(&archive);
    assert_eq!((report.links, report.files), (2, 1));
    assert_eq!(unpacked.files(), ["bundle/a/evil"]);
    assert!(!Path::new("/etc/evil").exists());
}

#[test]
fn a_link_under_the_name_of_a_file_is_never_followed() {
    let archive = Tar::default().add(EntryType::Symlink, b"main", b"").file("main", b"x").zst();
    assert_eq!(accepted(&archive).1.files(), ["bundle/main"]);
    let archive = Tar::default().file("main", b"x").add(EntryType::Link, b"main", b"").zst();
    assert_eq!(accepted(&archive).1.files(), ["bundle/main"]);
}

#[test]
fn hidden_entries_are_skipped_and_counted() {
    let archive = Tar::default()
        .file(".DS_Store", b"x")
        .file("ui/._index.html", b"x")
        .file(".ready", b"forged")
        .add(EntryType::Directory, b"./.git/", b"")
        .file("./.git/config", b"x")
        .file("./manifest.json", b"{}")
        .zst();
    let (report, unpacked) = accepted(&archive);
    assert_eq!((report.hidden, report.files), (5, 1));
    assert_eq!(unpacked.files(), ["bundle/manifest.json"]);
}

#[test]
fn too_many_entries_refuse_the_archive_implied_folders_included() {
    let limits = ArchiveLimits { entries: 10, ..ArchiveLimits::default() };
    let many = (0..11).fold(Tar::default(), |tar, n| tar.file(&format!("f{n}"), b""));
    assert!(matches!(refused_by(&many.zst(), &limits), ArchiveError::TooManyEntries { limit: 10 }));
    let deep = Tar::default().file("1/2/3/4/5/6/7/8/9/10/f", b"");
    assert!(matches!(refused_by(&deep.zst(), &limits), ArchiveError::TooManyEntries { .. }));
    let hidden = (0..11).fold(Tar::default(), |tar, n| tar.file(&format!(".{n}"), b""));
    assert!(matches!(refused_by(&hidden.zst(), &limits), ArchiveError::TooManyEntries { .. }));
}

#[test]
fn a_name_that_is_too_long_refuses_the_archive() {
    let name = "a/".repeat(400) + "f";
    for archive in [
        Tar::default().pax("path", name.as_bytes()).file("f", b"").zst(),
        Tar::default().add(EntryType::GNULongName, name.as_bytes(), name.as_bytes()).file("f", b"").zst(),
    ] {
        assert!(matches!(refused(&archive), ArchiveError::NameTooLong { .. }));
    }
}

#[test]
fn a_long_name_header_without_end_is_never_read_into_memory() {
    for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader, EntryType::XGlobalHeader]
    {
        let archive = Tar::default().add(kind, b"x", &vec![b'a'; 300 << 10]).file("f", b"").zst();
        assert!(matches!(refused(&archive), ArchiveError::Header(_)), "{kind:?}");
    }
}

#[test]
fn too_many_unpacked_bytes_refuse_the_archive() {
    let limits = ArchiveLimits { unpacked_bytes: 64 << 10, ..ArchiveLimits::default() };
    let noise: Vec<u8> = (0..100_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let one = Tar::default().file("f", &noise[..70 << 10]);
    assert!(matches!(refused_by(&one.zst(), &limits), ArchiveError::UnpackedTooLarge { .. }));
    let parts = (0..8).fold(Tar::default(), |tar, n| tar.file(&format!("f{n}"), &noise[..10 << 10]));
    assert!(matches!(refused_by(&parts.zst(), &limits), ArchiveError::UnpackedTooLarge { .. }));
}

#[test]
fn a_size_that_the_archive_only_claims_refuses_it() {
    let mut header = Header::new_gnu();
    header.set_path("f").unwrap();
    header.set_size(u64::MAX / 2);
    header.set_cksum();
    assert!(matches!(refused(&compress(header.as_bytes())), ArchiveError::UnpackedTooLarge { .. }));
}

#[test]
fn too_many_compressed_bytes_refuse_the_archive() {
    let limits = ArchiveLimits { archive_bytes: 100, ..ArchiveLimits::default() };
    let noise: Vec<u8> = (0..1000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let archive = Tar::default().file("f", &noise).zst();
    assert!(matches!(refused_by(&archive, &limits), ArchiveError::ArchiveTooLarge { .. }));
}

#[test]
fn a_decompression_bomb_is_stopped_by_its_ratio() {
    let archive = Tar::default().file("f", &vec![0; 64 << 20]).zst();
    assert!(archive.len() < 64 << 10);
    assert!(matches!(refused(&archive), ArchiveError::Ratio { limit: 200 }));
    // A bomb behind the end of the archive.
    let mut padded = Tar::default().file("f", b"x").tar();
    padded.resize(64 << 20, 0);
    assert!(matches!(refused(&compress(&padded)), ArchiveError::Ratio { .. }));
}

#[test]
fn a_window_that_takes_more_memory_than_allowed_is_refused() {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(28).unwrap();
    encoder.long_distance_matching(true).unwrap();
    encoder.write_all(&Tar::default().file("f", b"x").tar()).unwrap();
    assert!(matches!(refused(&encoder.finish().unwrap()), ArchiveError::Damaged { .. }));
}

#[test]
fn an_archive_cut_anywhere_is_refused() {
    let noise: Vec<u8> = (0..10_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let tar = Tar::default().file("f", &noise).tar();
    let whole = compress(&tar);
    for len in [1, 3, 10, whole.len() / 2, whole.len() - 1] {
        let error = refused(&whole[..len]);
        assert!(matches!(error, ArchiveError::Damaged { .. }), "zstd cut at {len}: {error}");
    }
    for len in [100, 511, 513, 5000, noise.len()] {
        let error = refused(&compress(&tar[..len]));
        assert!(matches!(error, ArchiveError::Damaged { .. }), "tar cut at {len}: {error}");
    }
}

#[test]
fn what_is_no_archive_is_refused() {
    for bytes in [&b"PK\x03\x04 a zip"[..], b"<html>not found</html>", &[0x1f, 0x8b, 8, 0]] {
        assert!(matches!(refused(bytes), ArchiveError::Damaged { .. }));
    }
    assert!(matches!(refused(&compress(&[b'x'; 2048])), ArchiveError::Damaged { .. }));
    let mut garbage_after = Tar::default().file("f", b"x").zst();
    garbage_after.extend_from_slice(b"garbage");
    assert!(matches!(refused(&garbage_after), ArchiveError::Damaged { .. }));
}

#[test]
fn entries_behind_the_end_of_the_archive_refuse_it() {
    let mut tar = Tar::default().file("f", b"x").tar();
    tar.extend(Tar::default().file("g", b"x").tar());
    assert!(matches!(refused(&compress(&tar)), ArchiveError::Header(_)));
}

#[test]
fn a_damaged_header_refuses_the_archive() {
    let mut tar = Tar::default().file("f", b"x").tar();
    tar[0] = b'g';
    assert!(matches!(refused(&compress(&tar)), ArchiveError::Damaged { .. }));
}

#[test]
fn a_name_twice_or_a_file_in_the_place_of_a_folder_refuses_the_archive() {
    for archive in [
        Tar::default().file("main.wasm", b"good").file("main.wasm", b"evil"),
        Tar::default().file("a/f", b"good").file("./a//f", b"evil"),
        Tar::default().file("a", b"").file("a/f", b""),
        Tar::default().file("a/f", b"").file("a", b""),
    ] {
        let error = refused(&archive.zst());
        assert!(matches!(error, ArchiveError::Duplicate { .. }), "{error}");
    }
    let folders = Tar::default()
        .add(EntryType::Directory, b"a/", b"")
        .add(EntryType::Directory, b"./a", b"")
        .file("a/f", b"x");
    assert_eq!(accepted(&folders.zst()).1.files(), ["bundle/a/f"]);
}

#[test]
fn a_pax_path_is_checked_like_any_other() {
    for path in [&b"../evil"[..], b"/etc/evil", b"a\0b", b"a\nb", b"", b"a\\..\\b", b"\xff"] {
        let error = refused(&Tar::default().pax("path", path).file("innocent", b"x").zst());
        assert!(matches!(error, ArchiveError::Name { .. }), "{path:?}: {error}");
    }
}

#[test]
fn headers_that_two_readers_would_read_differently_refuse_the_archive() {
    for archive in [
        Tar::default().pax("size", b"1").file("f", b"four"),
        Tar::default().pax("path", b"a").add(EntryType::GNULongName, b"x", b"b\0").file("f", b""),
        Tar::default().pax("path", b"a").pax("path", b"b").file("f", b""),
        Tar::default().add(EntryType::XGlobalHeader, b"x", b"10 path=a\n").file("f", b""),
        Tar::default().add(EntryType::Directory, b"a", b"content"),
    ] {
        let error = refused(&archive.zst());
        assert!(matches!(error, ArchiveError::Header(_)), "{error}");
    }
    let sparse = Tar::default().pax("GNU.sparse.major", b"1").file("f", b"x");
    assert!(matches!(refused(&sparse.zst()), ArchiveError::Special { .. }));
}

#[test]
fn a_header_that_describes_nothing_refuses_the_archive() {
    assert!(matches!(refused(&Tar::default().pax("path", b"a").zst()), ArchiveError::Damaged { .. }));
}

#[test]
fn a_nul_ends_a_name_in_a_header_and_nothing_behind_it_counts() {
    let archive = Tar::default().file("a\0../../evil", b"x").zst();
    assert_eq!(accepted(&archive).1.files(), ["bundle/a"]);
}

#[test]
fn what_plain_tools_make_is_accepted() {
    let long = format!("ui/{}/index.html", "a".repeat(150));
    let archive = Tar::default()
        .add(EntryType::XGlobalHeader, b"pax_global_header", b"19 comment=1234567\n")
        .add(EntryType::Directory, b"./", b"")
        .pax("SCHILY.xattr.com.apple.provenance", b"\x01\n\n\x00")
        .file("./manifest.json", b"{}")
        .add(EntryType::GNULongName, b"././@LongLink", format!("{long}\0").as_bytes())
        .file("cut", b"long")
        .pax("path", "dist/ünicode.wasm".as_bytes())
        .file("x", b"pax")
        .add(EntryType::new(0), b"old-kind", b"v7")
        .add(EntryType::new(0), b"old-folder/", b"")
        .zst();
    let (report, unpacked) = accepted(&archive);
    assert_eq!(report.files, 4);
    let mut expected = vec!["bundle/dist/ünicode.wasm", "bundle/manifest.json", "bundle/old-kind", &long];
    expected.sort_unstable();
    assert_eq!(unpacked.files(), expected);
}

#[test]
fn ui_files_go_to_a_folder_of_their_own_and_all_files_are_read_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let files = [("ui/index.html", "u"), ("ui/js/a.js", "j"), ("dist/main.wasm", "w"), ("uix/a", "x")];
    let (report, unpacked) = accepted(&pack_files(files, 3).unwrap());
    assert_eq!((report.files, report.bytes), (4, 4 * 4096));
    assert_eq!(unpacked.files(), ["bundle/dist/main.wasm", "bundle/uix/a", "ui/index.html", "ui/js/a.js"]);
    let mode = unpacked.out.join("ui/js/a.js").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o444);
}

#[test]
fn a_failing_disk_is_not_blamed_on_the_archive() {
    struct Failing;
    impl std::io::Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::from_raw_os_error(5))
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let target = Target { bundle: &dir.path().join("b"), ui: &dir.path().join("u") };
    let error = unpack(Failing, &ArchiveLimits::default(), target).unwrap_err();
    assert!(matches!(error, UnpackError::Io(_)), "{error:?}");
    let archive = pack_files([("f", "x")], 3).unwrap();
    let target = Target { bundle: &dir.path().join("gone/b"), ui: &dir.path().join("u") };
    let error = unpack(archive.as_slice(), &ArchiveLimits::default(), target).unwrap_err();
    assert!(matches!(error, UnpackError::Io(_)), "{error:?}");
}
