//! Keeps the folder below its limit: what was used longest ago goes first, what anybody uses stays.

use std::io;
use std::time::SystemTime;

use longshore_proto::ContentHash;

use super::disk::{Disk, Meta};
use super::lock::{self, NameLock};

/// Eviction goes on to nine tenths of the limit, or every further fetch would evict again.
const fn low_water(max: u64) -> u64 {
    max / 10 * 9
}

/// A bundle on disk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    pub hash: ContentHash,
    pub bytes: u64,
    used: SystemTime,
}

/// Who evicts. One process of a machine at a time: two would both remove the same number of bytes.
#[derive(Debug)]
pub(super) struct Evictor(#[expect(dead_code, reason = "held for its Drop")] NameLock);

impl Disk {
    /// Every bundle on disk, used longest ago first. One without readable metadata counts as oldest and empty.
    pub fn kept(&self) -> io::Result<Vec<Kept>> {
        let mut kept = Vec::new();
        for hash in self.entries()? {
            let path = self.meta(hash);
            let used = std::fs::metadata(&path).and_then(|meta| meta.modified());
            let bytes = std::fs::read(&path)
                .ok()
                .and_then(|text| serde_json::from_slice::<Meta>(&text).ok())
                .map_or(0, |meta| meta.bytes);
            kept.push(Kept { hash, bytes, used: used.unwrap_or(SystemTime::UNIX_EPOCH) });
        }
        kept.sort_by_key(|kept| kept.used);
        Ok(kept)
    }

    /// None if another process evicts now.
    pub fn evictor(&self) -> io::Result<Option<Evictor>> {
        Ok(NameLock::try_take(self.lock_path("evict"))?.map(Evictor))
    }

    /// Removes one bundle unless anybody uses or fetches it.
    pub fn evict(&self, hash: ContentHash, _right: &Evictor) -> io::Result<bool> {
        let Some(_fetch) = self.try_lock(hash)? else { return Ok(false) };
        let meta = self.meta(hash);
        let _own = match lock::own(&meta)? {
            None if meta.exists() => return Ok(false),
            own => own,
        };
        match self.remove(hash) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// How many bytes have to go, if the folder is over its limit.
pub(super) fn over(kept: &[Kept], max: u64) -> Option<u64> {
    let total: u64 = kept.iter().map(|kept| kept.bytes).fold(0, u64::saturating_add);
    (total > max).then(|| total.saturating_sub(low_water(max)))
}
