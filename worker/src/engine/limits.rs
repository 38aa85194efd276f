//! Memory of one run: all linear memories and tables of its store together.

use std::sync::Arc;

use wasmtime::{ResourceLimiter, Result};

use super::runtime::{
    CORE_INSTANCES_PER_COMPONENT, MEMORIES_PER_COMPONENT, TABLE_ELEMENTS, TABLES_PER_COMPONENT,
};
use crate::host::record::RunRecord;

/// A table element is a pointer in the host.
const ELEMENT_BYTES: usize = size_of::<usize>();

/// Counts what the instance holds. Growing over the limit makes `memory.grow` answer -1, as wasm says: a guest that
/// can live with it does. Most allocators abort instead; the record remembers the refusal, so that the abort is
/// reported as what it is.
pub struct MemoryLimits {
    limit: usize,
    held: usize,
    record: Arc<RunRecord>,
}

impl MemoryLimits {
    /// A limit in bytes.
    pub fn new(limit: usize, record: Arc<RunRecord>) -> Self {
        Self { limit, held: 0, record }
    }

    fn grow(&mut self, current: usize, desired: usize) -> bool {
        let more = desired.saturating_sub(current);
        let total = self.held.saturating_add(more);
        if total > self.limit {
            self.record.memory_refused();
            return false;
        }
        // Counted before the allocation, which can still fail for want of memory: then the run holds less than is
        // counted, never more.
        self.held = total;
        self.record.memory_held(total);
        true
    }
}

impl ResourceLimiter for MemoryLimits {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        // Over the module's own maximum: refused by the guest's own wish, not by the limit.
        if maximum.is_some_and(|max| desired > max) {
            return Ok(false);
        }
        Ok(self.grow(current, desired))
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        if desired > TABLE_ELEMENTS || maximum.is_some_and(|max| desired > max) {
            return Ok(false);
        }
        Ok(self.grow(current.saturating_mul(ELEMENT_BYTES), desired.saturating_mul(ELEMENT_BYTES)))
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES_PER_COMPONENT as usize
    }

    fn tables(&self) -> usize {
        TABLES_PER_COMPONENT as usize
    }

    fn memories(&self) -> usize {
        MEMORIES_PER_COMPONENT as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(bytes: usize) -> (MemoryLimits, Arc<RunRecord>) {
        let record = Arc::new(RunRecord::for_tests());
        (MemoryLimits::new(bytes, Arc::clone(&record)), record)
    }

    #[test]
    fn memories_and_tables_share_one_limit() {
        let (mut limits, record) = limits(3 << 16);
        assert!(limits.memory_growing(0, 1 << 16, None).unwrap());
        assert!(limits.memory_growing(0, 1 << 16, None).unwrap());
        assert!(limits.table_growing(0, 8_192, None).unwrap());
        assert!(!record.was_memory_refused());
        assert!(!limits.memory_growing(1 << 16, 2 << 16, None).unwrap());
        assert!(record.was_memory_refused());
        assert_eq!(record.peak_memory(), 3 << 16);
    }

    #[test]
    fn a_guests_own_maximum_is_no_broken_limit() {
        let (mut limits, record) = limits(1 << 20);
        assert!(!limits.memory_growing(0, 2 << 16, Some(1 << 16)).unwrap());
        assert!(!limits.table_growing(0, TABLE_ELEMENTS + 1, None).unwrap());
        assert!(!record.was_memory_refused());
    }
}
