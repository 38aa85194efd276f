//! Answers.

use serde_json::{Value, json};

/// A status and a JSON body.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

/// A refusal is an answer too.
pub(crate) type Outcome = Result<Answer, Answer>;

impl Answer {
    pub(crate) fn new(status: u16, body: Value) -> Self {
        Self { status, body }
    }

    pub(crate) fn ok(body: Value) -> Self {
        Self::new(200, body)
    }

    /// `{error, code, details}`.
    pub(crate) fn error(status: u16, code: &str, message: &str) -> Self {
        Self::new(status, json!({ "error": message, "code": code, "details": null }))
    }

    /// A request of the wrong shape, as the platform's schema checks word it.
    pub(crate) fn shape(field: &str, message: &str) -> Self {
        let details = json!({ "formErrors": [], "fieldErrors": { field: [message] } });
        Self::new(400, json!({ "error": "Validation error", "details": details }))
    }

    /// A write that is refused.
    pub(crate) fn failed(message: &str) -> Self {
        Self::new(400, json!({ "success": false, "error": message }))
    }

    /// As [`Answer::failed`], because of a field.
    pub(crate) fn failed_field(field: &str, message: &str) -> Self {
        Self::new(400, json!({ "success": false, "error": message, "fieldErrors": { field: message } }))
    }
}
