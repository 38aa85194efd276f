//! Failures as the document shows them: every route may answer each of them.

use std::collections::BTreeMap;

use utoipa::openapi::{Content, Ref, RefOr, Response, ResponseBuilder};

use crate::api::ApiCode;

/// All failures.
pub struct Failures;

impl utoipa::IntoResponses for Failures {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut by_status: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
        for code in ApiCode::ALL {
            by_status.entry(code.status()).or_default().push(code.as_str());
        }
        let responses = by_status.into_iter().map(|(status, codes)| {
            let content = Content::new(Some(Ref::from_schema_name("ApiError")));
            let response = ResponseBuilder::new()
                .description(format!("`{}`", codes.join("`, `")))
                .content("application/json", content)
                .build();
            (status.to_string(), RefOr::T(response))
        });
        responses.collect()
    }
}
