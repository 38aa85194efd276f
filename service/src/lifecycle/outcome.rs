//! What a task's future may give.

use std::error::Error;

use crate::errors::chain;

/// How an essential task can end.
pub trait Outcome {
    /// The error as text, with its causes.
    fn into_result(self) -> Result<(), String>;
}

impl Outcome for () {
    fn into_result(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> Outcome for Result<(), E> {
    fn into_result(self) -> Result<(), String> {
        self.map_err(|error| chain(&*error.into()).to_string())
    }
}
