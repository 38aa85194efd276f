//! Errors as one line for people.

use std::error::Error;
use std::fmt;

/// A chain longer than this is a loop.
const MAX_CAUSES: usize = 32;

/// Displays an error with its causes, separated by colons; for log lines and for `main`.
///
/// A cause whose text the error before it repeats at its end (some libraries do that) is shown once.
pub struct Chain<'a>(&'a dyn Error);

/// `error` with its causes.
pub fn chain(error: &dyn Error) -> Chain<'_> {
    Chain(error)
}

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.0.to_string();
        f.write_str(&shown)?;
        for cause in std::iter::successors(self.0.source(), |error| (*error).source()).take(MAX_CAUSES) {
            let text = cause.to_string();
            if !shown.ends_with(&text) {
                write!(f, ": {text}")?;
                shown = text;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        #[source]
        cause: Option<Box<Layer>>,
    }

    fn layers(texts: &[&'static str]) -> Layer {
        let mut texts = texts.iter().rev();
        let last = Layer { text: texts.next().unwrap(), cause: None };
        texts.fold(last, |cause, text| Layer { text, cause: Some(Box::new(cause)) })
    }

    #[test]
    fn every_cause_is_shown_once() {
        for (texts, line) in [
            (&["cannot start"][..], "cannot start"),
            (&["cannot start", "cannot listen", "in use"], "cannot start: cannot listen: in use"),
            (&["cannot start: in use", "in use", "errno 98"], "cannot start: in use: errno 98"),
        ] {
            assert_eq!(chain(&layers(texts)).to_string(), line);
        }
    }
}
