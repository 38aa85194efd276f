//! A tenant's bundles.

use std::time::SystemTime;

use longshore_bundle::BundleKey;
use longshore_proto::{ContentHash, TenantId};

use super::keys::{Kind, found, of_tenant};
use super::{Bundles, store_failed};
use crate::api::{ApiCode, BundleList, BundleQuery, BundleView, MAX_LIMIT};
use crate::http::Failure;

/// Pages of the store that a search looks at: 20,000 objects.
const PAGES: usize = 20;

impl Bundles {
    /// A page of a tenant's bundles. `used` says of a bundle whether it is in force, and whether it may be rolled back to.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn list(
        &self,
        tenant: &TenantId,
        query: &BundleQuery,
        used: impl Fn(&BundleKey) -> (bool, bool),
    ) -> Result<BundleList, Failure> {
        let prefix = of_tenant(tenant);
        // A store repeats it in its answer, and XML can say no such character: nobody could read that.
        let unsayable = |c: char| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}');
        let foreign = |cursor: &String| {
            cursor.len() > 1024 || !cursor.starts_with(&prefix) || cursor.contains(unsayable)
        };
        if query.cursor.as_ref().is_some_and(foreign) {
            return Err(Failure::invalid("cursor is not what `next` of a page of this list said"));
        }
        let limit = limit(query.limit)?;
        let page =
            self.store.list_objects(&prefix, query.cursor.as_deref()).await.map_err(|e| store_failed(&e))?;
        let mut list = BundleList { bundles: Vec::new(), next: page.next };
        for object in page.objects {
            let Some(bundle) = found(&object.key).filter(|found| found.kind == Kind::Archive) else {
                continue;
            };
            let (in_force, previous) = used(&bundle.key);
            list.bundles.push(BundleView {
                extension: bundle.key.extension.to_string(),
                content_hash: bundle.key.hash.to_string(),
                object_key: object.key.to_string(),
                size: object.size,
                modified: object.modified.and_then(rfc3339),
                in_force,
                previous,
            });
            if list.bundles.len() == limit {
                list.next = Some(object.key.to_string());
                break;
            }
        }
        Ok(list)
    }

    /// Where a tenant has a bundle of this hash, if the extension is not named.
    ///
    /// # Errors
    /// There is none, or more than one.
    pub async fn search(&self, tenant: &TenantId, hash: ContentHash) -> Result<BundleKey, Failure> {
        let prefix = of_tenant(tenant);
        let (mut after, mut keys) = (None, Vec::new());
        for _ in 0..PAGES {
            let page =
                self.store.list_objects(&prefix, after.as_deref()).await.map_err(|e| store_failed(&e))?;
            let here = page.objects.iter().filter_map(|object| found(&object.key));
            keys.extend(
                here.filter(|found| found.kind == Kind::Archive && found.key.hash == hash).map(|f| f.key),
            );
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        match (keys.pop(), keys.is_empty()) {
            (Some(key), true) => Ok(key),
            (Some(key), false) => Err(Failure::new(
                ApiCode::Conflict,
                format!(
                    "tenant {tenant} has {hash} under several extensions, {} among them: name one (`extension`)",
                    key.extension
                ),
            )),
            (None, _) => Err(Failure::new(
                ApiCode::BundleNotFound,
                format!(
                    "tenant {tenant} has no bundle {hash} in the store: upload it, or name the tenant that has it (`move_from`)"
                ),
            )),
        }
    }
}

/// A list's `limit`.
pub fn limit(asked: Option<u32>) -> Result<usize, Failure> {
    match asked.unwrap_or(MAX_LIMIT) {
        limit @ 1..=MAX_LIMIT => Ok(usize::try_from(limit).unwrap_or(usize::MAX)),
        other => Err(Failure::invalid(format!("limit is {other}; it must be 1 to {MAX_LIMIT}"))),
    }
}

fn rfc3339(time: SystemTime) -> Option<String> {
    time::OffsetDateTime::from(time).format(&time::format_description::well_known::Rfc3339).ok()
}
