//! Replacing inside decoded arguments and results.

use std::borrow::Cow;

use rmpv::{Utf8String, Value};

use super::Tokenizer;

/// Where a value stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Anywhere,
    /// Under `body`.
    Body,
    /// Under `headers` or `trailers`: a map there is one of headers.
    Headers,
}

impl Tokenizer {
    /// Replaces in every text and binary of a value, and in lists of bytes. A map of `name` and `value` and, in a list, a list of
    /// two texts are a header, as is an entry of a map under the key `headers` or `trailers`; what stands under the key
    /// `body` is a body. Numbers stay: in arguments and results they are lengths, times and ids of streams.
    pub fn value(&self, value: &mut Value) {
        self.walk(value, Place::Anywhere);
    }

    fn walk(&self, value: &mut Value, place: Place) {
        match value {
            Value::String(_) | Value::Binary(_) => self.leaf(value, |tokenizer, bytes| match place {
                Place::Body => tokenizer.body(bytes),
                Place::Anywhere | Place::Headers => tokenizer.bytes(bytes),
            }),
            Value::Array(values) => match bytes_of(values) {
                Some(bytes) => {
                    let replaced = if place == Place::Body { self.body(&bytes) } else { self.bytes(&bytes) };
                    if let Cow::Owned(replaced) = replaced {
                        *values = replaced.into_iter().map(Value::from).collect();
                    }
                }
                None => values.iter_mut().for_each(|value| self.element(value, place)),
            },
            Value::Map(fields) => self.map(fields, place),
            Value::Ext(_, bytes) => {
                if let Cow::Owned(replaced) = self.bytes(bytes) {
                    *bytes = replaced;
                }
            }
            Value::Nil | Value::Boolean(_) | Value::Integer(_) | Value::F32(_) | Value::F64(_) => {}
        }
    }

    /// Of a list. A pair elsewhere is no header: the names of two secrets are a list of two texts, too.
    fn element(&self, value: &mut Value, place: Place) {
        if let Value::Array(values) = value
            && let [Value::String(name), value @ (Value::String(_) | Value::Binary(_))] =
                values.as_mut_slice()
        {
            let name = name.as_str().unwrap_or_default().to_owned();
            self.header_value(&name, value);
        } else {
            self.walk(value, place);
        }
    }

    fn map(&self, fields: &mut [(Value, Value)], place: Place) {
        let header = name_of(fields);
        for (key, value) in fields {
            let name = key.as_str().unwrap_or_default().to_owned();
            match (name.as_str(), &header) {
                ("value", Some(header)) => self.header_value(header, value),
                ("body", _) => self.walk(value, Place::Body),
                ("headers" | "trailers", _) => self.walk(value, Place::Headers),
                _ if place == Place::Headers => self.header_value(&name, value),
                _ => self.walk(value, place),
            }
            self.walk(key, Place::Anywhere);
        }
    }

    /// The value of a header, or a list of them.
    fn header_value(&self, name: &str, value: &mut Value) {
        match value {
            Value::Array(values) => match bytes_of(values) {
                Some(bytes) => {
                    if let Cow::Owned(replaced) = self.header_bytes(name, &bytes) {
                        *values = replaced.into_iter().map(Value::from).collect();
                    }
                }
                None => values.iter_mut().for_each(|value| self.header_value(name, value)),
            },
            Value::String(_) | Value::Binary(_) => {
                self.leaf(value, |tokenizer, bytes| tokenizer.header_bytes(name, bytes));
            }
            _ => self.walk(value, Place::Headers),
        }
    }

    fn leaf(&self, value: &mut Value, replace: impl for<'t> FnOnce(&Self, &'t [u8]) -> Cow<'t, [u8]>) {
        let bytes = match value {
            Value::String(text) => text.as_bytes(),
            Value::Binary(bytes) => bytes,
            _ => return,
        };
        if let Cow::Owned(replaced) = replace(self, bytes) {
            let text = matches!(value, Value::String(_));
            *value = match String::from_utf8(replaced) {
                Ok(replaced) if text => Value::String(Utf8String::from(replaced)),
                Ok(replaced) => Value::Binary(replaced.into_bytes()),
                Err(error) => Value::Binary(error.into_bytes()),
            };
        }
    }
}

/// The header's name, if this is a map of `name` and `value`.
fn name_of(fields: &[(Value, Value)]) -> Option<String> {
    let field =
        |name: &str| fields.iter().find(|(key, _)| key.as_str() == Some(name)).map(|(_, value)| value);
    field("value")?;
    field("name")?.as_str().map(str::to_owned)
}

/// A list of bytes as one: what serde makes of a `Vec<u8>`. Shorter ones hold no secret.
fn bytes_of(values: &[Value]) -> Option<Vec<u8>> {
    if values.len() < crate::redact::MIN_BYTES {
        return None;
    }
    values.iter().map(|value| value.as_u64().and_then(|byte| u8::try_from(byte).ok())).collect()
}
