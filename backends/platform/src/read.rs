//! What clients and services share: pages, one item, and for whom they are read.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::api::Api;
use crate::{Caller, Platform, PlatformError};

/// Items of a page unless the guest says otherwise.
const DEFAULT_PAGE_SIZE: u32 = 25;
/// Most items of a page.
const MAX_PAGE_SIZE: u32 = 100;

/// The user on whose behalf is read; the platform checks that user's permission too.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UserRef<'a> {
    /// The user's id.
    pub user_id: &'a str,
    /// `internal` or `client`.
    pub user_type: &'a str,
}

/// Page and page size with their defaults, 1 and 25.
///
/// # Errors
/// [`PlatformError::Invalid`], which is `invalid-input` to the guest, for page 0 and for a size outside 1 to 100 (interop 1.3).
pub fn page(page: Option<u32>, page_size: Option<u32>) -> Result<(u32, u32), PlatformError> {
    let (page, page_size) = (page.unwrap_or(1), page_size.unwrap_or(DEFAULT_PAGE_SIZE));
    if page < 1 {
        return Err(PlatformError::Invalid { field: "page", rule: "must be at least 1" });
    }
    if !(1..=MAX_PAGE_SIZE).contains(&page_size) {
        return Err(PlatformError::Invalid { field: "pageSize", rule: "must be 1 to 100" });
    }
    Ok((page, page_size))
}

#[derive(Serialize)]
struct Read<'a, I> {
    operation: &'static str,
    input: I,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<UserRef<'a>>,
}

/// A page as it arrives. One malformed item makes the answer malformed (interop 6.3); missing numbers have defaults.
#[derive(Deserialize)]
pub(crate) struct Items<T> {
    pub(crate) items: Vec<T>,
    #[serde(rename = "totalCount", alias = "total_count")]
    total_count: Option<u32>,
    page: Option<u32>,
    #[serde(rename = "pageSize", alias = "page_size")]
    page_size: Option<u32>,
}

impl<T> Items<T> {
    /// `totalCount`, `page` and `pageSize`.
    pub(crate) fn counts(&self) -> (u32, u32, u32) {
        (self.total_count.unwrap_or(0), self.page.unwrap_or(1), self.page_size.unwrap_or(DEFAULT_PAGE_SIZE))
    }
}

impl Platform {
    pub(crate) async fn read_list<T: DeserializeOwned>(
        &self,
        api: Api,
        caller: &Caller<'_>,
        user: Option<UserRef<'_>>,
        input: impl Serialize,
    ) -> Result<Items<T>, PlatformError> {
        self.call(api, caller, &Read { operation: "list", input, user }).await
    }

    pub(crate) async fn read_item<T: DeserializeOwned>(
        &self,
        api: Api,
        caller: &Caller<'_>,
        user: Option<UserRef<'_>>,
        input: impl Serialize,
    ) -> Result<Option<T>, PlatformError> {
        let mut answer: Map<String, Value> =
            self.call(api, caller, &Read { operation: "get", input, user }).await?;
        match answer.remove("item") {
            None => Err(PlatformError::Malformed("no item")),
            Some(item) => serde_json::from_value(item)
                .map_err(|_| PlatformError::Malformed("a field of the item is missing or of the wrong type")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_outside_its_range_is_invalid() {
        assert_eq!(page(None, None).unwrap(), (1, 25));
        assert_eq!(page(Some(u32::MAX), Some(100)).unwrap(), (u32::MAX, 100));
        for (number, size) in [(Some(0), None), (None, Some(0)), (None, Some(101)), (Some(1), Some(u32::MAX))]
        {
            let error = page(number, size).unwrap_err();
            assert_eq!(crate::ReadFault::from(&error), crate::ReadFault::InvalidInput);
        }
    }
}
