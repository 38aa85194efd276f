//! From an admitted HTTP call to an answer: waiting room, choice, in flight (docs/architecture.md).

mod api;
pub mod machine;

pub use api::{Answer, AnswerBody, Call, CallResult};
