//! `bundle.tar.zst`: what may be in it, unpacking, packing.
//!
//! An archive comes from a tenant, so every part of it is hostile until read: sizes, names, kinds, ratios. The rules
//! (interop 5.2, with the parts that the reference lacked):
//! - `..`, absolute names, devices, fifos, sparse and unknown kinds, names twice: the whole archive is refused.
//! - Hidden entries (a segment that starts with a dot: `.DS_Store`, `._x`, `.git/..`) and links are skipped and
//!   counted. A link is never made, so nothing can be written through one.
//! - A leading `./`, PAX headers and GNU long names are understood, whatever plain `tar` makes.

mod limits;
mod name;
mod pack;
mod pax;
mod unpack;
mod walk;

pub use limits::ArchiveLimits;
pub(crate) use name::check as check_name;
pub(crate) use pack::pack_each;
pub use pack::{PACK_LEVEL, PackError, content_hash, pack_dir, pack_files};
pub use unpack::{Target, unpack};
pub use walk::{Report, Sink, Skipped, walk};

/// Why an archive was refused. Safe to show to the tenant.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// More compressed bytes than allowed.
    #[error("the archive is larger than {limit} bytes")]
    ArchiveTooLarge {
        /// [`ArchiveLimits::archive_bytes`].
        limit: u64,
    },
    /// More bytes after decompression than allowed.
    #[error("the archive unpacks to more than {limit} bytes")]
    UnpackedTooLarge {
        /// [`ArchiveLimits::unpacked_bytes`].
        limit: u64,
    },
    /// A decompression bomb.
    #[error("the archive unpacks to more than {limit} times its size")]
    Ratio {
        /// [`ArchiveLimits::ratio`].
        limit: u64,
    },
    /// More files and folders than allowed.
    #[error("the archive has more than {limit} entries, implied folders included")]
    TooManyEntries {
        /// [`ArchiveLimits::entries`].
        limit: u32,
    },
    /// A name that is too long or too deep.
    #[error("the name {name:?} is longer than {bytes} bytes or deeper than {depth} folders")]
    NameTooLong {
        /// Its beginning.
        name: String,
        /// [`ArchiveLimits::path_bytes`].
        bytes: usize,
        /// [`ArchiveLimits::depth`].
        depth: usize,
    },
    /// A name that leaves the folder, or that systems read differently.
    #[error("the name {name:?} {problem}")]
    Name {
        /// Its beginning.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A device, fifo, sparse file or unknown kind.
    #[error("{name:?} is {kind}, not a file, folder or link")]
    Special {
        /// Its beginning.
        name: String,
        /// What it is.
        kind: &'static str,
    },
    /// The same name twice, or a file where a folder is.
    #[error("the name {name:?} is in the archive twice")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A header that contradicts itself.
    #[error("{0}")]
    Header(&'static str),
    /// Not zstd, not tar, or cut short.
    #[error("the archive is damaged or no tar.zst")]
    Damaged {
        /// What the decoder said.
        #[source]
        source: std::io::Error,
    },
    /// `manifest.json` names an entry outside the bundle.
    #[error("the manifest cannot be used")]
    Manifest {
        /// Why.
        #[source]
        source: longshore_proto::manifest::ManifestError,
    },
}

/// Why unpacking ended early.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The archive's fault.
    #[error(transparent)]
    Refused(#[from] ArchiveError),
    /// This machine's fault: the disk is full, the folder is gone.
    #[error("could not read or write on this machine")]
    Io(#[source] std::io::Error),
}
