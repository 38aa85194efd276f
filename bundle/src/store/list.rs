//! What is in a store: for retention and purges, which look at everything once in a while, page by page.

use std::time::SystemTime;

use crate::key::ObjectKey;

/// The most objects of one page, which is what S3 answers at most.
pub const PAGE: usize = 1000;

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Where it is.
    pub key: ObjectKey,
    /// Its bytes.
    pub size: u64,
    /// When it was written, where the store says.
    pub modified: Option<SystemTime>,
}

/// A page of a listing, in the order of the keys' bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectPage {
    /// At most [`PAGE`]. What a key of ours could not name is left out, so a page may be empty and have a next one.
    pub objects: Vec<ObjectInfo>,
    /// What the next page follows; none: this was the last.
    pub next: Option<String>,
}
