//! Objects of the store, by prefix.

use longshore_bundle::store::ObjectInfo;

use crate::api::Removed;
use crate::app::Parts;
use crate::bundles::{found, store_failed};
use crate::http::Failure;

impl Parts {
    /// Removes every object below a prefix and counts it. Repeatable: what is gone is not there to be listed.
    pub(crate) async fn remove_objects(&self, prefix: &str, removed: &mut Removed) -> Result<(), Failure> {
        let store = self.bundles.store();
        let mut after = None;
        loop {
            let page =
                store.list_objects(prefix, after.as_deref()).await.map_err(|error| store_failed(&error))?;
            for object in &page.objects {
                store.delete_object(&object.key).await.map_err(|error| store_failed(&error))?;
                count(object, removed);
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }
}

/// Counts an object that has gone, or would go.
pub(crate) fn count(object: &ObjectInfo, removed: &mut Removed) {
    removed.bytes = removed.bytes.saturating_add(object.size);
    if found(&object.key).is_some() {
        removed.bundle_objects += 1;
    } else {
        removed.other_objects += 1;
    }
}
