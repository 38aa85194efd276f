//! Fields of a request, checked as the platform's schemas do: an optional field may be absent and must not be `null`.

use serde_json::{Map, Value};

use crate::answer::Answer;

/// The object whose fields are read.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a>(pub(crate) &'a Map<String, Value>);

impl<'a> Fields<'a> {
    pub(crate) fn of(value: &'a Value) -> Result<Self, Answer> {
        value.as_object().map(Self).ok_or_else(|| Answer::shape("body", "Expected object"))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name)
    }

    /// A string of 1 to `max` characters.
    pub(crate) fn text(&self, name: &str, max: usize) -> Result<&'a str, Answer> {
        match self.optional_text(name, max)? {
            Some("") => Err(Answer::shape(name, "String must contain at least 1 character(s)")),
            Some(text) => Ok(text),
            None => Err(Answer::shape(name, "Required")),
        }
    }

    /// A string of at most `max` characters, counted as JavaScript does.
    pub(crate) fn optional_text(&self, name: &str, max: usize) -> Result<Option<&'a str>, Answer> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.encode_utf16().count() <= max => Ok(Some(text)),
            Some(Value::String(_)) => {
                Err(Answer::shape(name, &format!("String must contain at most {max} character(s)")))
            }
            Some(_) => Err(Answer::shape(name, "Expected string")),
        }
    }

    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, Answer> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(Answer::shape(name, "Expected boolean")),
        }
    }

    /// An integer within `min..=max`.
    pub(crate) fn integer(&self, name: &str, min: u64, max: u64) -> Result<Option<u64>, Answer> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => match value.as_u64() {
                Some(number) if (min..=max).contains(&number) => Ok(Some(number)),
                Some(_) => Err(Answer::shape(name, &format!("Number must be {min} to {max}"))),
                None => Err(Answer::shape(name, "Expected integer")),
            },
        }
    }

    /// A UUID as the platform's database makes them.
    pub(crate) fn uuid(&self, name: &str) -> Result<&'a str, Answer> {
        let text = self.text(name, 64)?;
        if is_uuid(text) { Ok(text) } else { Err(Answer::shape(name, "Invalid uuid")) }
    }
}

/// Whether this is a UUID of version 1 to 5 with hyphens.
pub(crate) fn is_uuid(text: &str) -> bool {
    text.len() == 36 && uuid::Uuid::try_parse(text).is_ok_and(|id| (1..=5).contains(&id.get_version_num()))
}

/// A new random id.
pub(crate) fn new_uuid() -> String {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string()
}

/// A point in time as JavaScript writes it.
pub(crate) fn iso(time: time::OffsetDateTime) -> String {
    let format = time::macros::format_description!(
        "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
    );
    time.format(&format).unwrap_or_default()
}
