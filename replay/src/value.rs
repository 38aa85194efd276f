//! Values of a trace as people and diffs see them: MessagePack as JSON, bytes as text where they are text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rmpv::Value as Packed;
use serde_json::{Map, Value, json};

/// Bytes of a text that is looked into for JSON.
const MAX_NESTED: usize = 4 << 20;
/// How deep a value may be before the rest of it is left out: neither a reader nor its stack needs more.
const MAX_DEPTH: usize = 64;

/// Reads MessagePack; what is none, or too deep, becomes null.
pub fn unpack(bytes: &[u8]) -> Packed {
    let mut bytes = bytes;
    // Hostile nesting would end the process; the crate counts for us.
    rmpv::decode::read_value_with_max_depth(&mut bytes, MAX_DEPTH).unwrap_or(Packed::Nil)
}

/// Writes MessagePack.
pub fn pack(value: &Packed) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Writing into a vector cannot fail.
    if rmpv::encode::write_value(&mut bytes, value).is_err() {
        bytes.clear();
    }
    bytes
}

/// As JSON: bytes as text when they are UTF-8, else `{"base64": ..}`.
pub fn json(value: &Packed) -> Value {
    match value {
        Packed::Nil => Value::Null,
        Packed::Boolean(bool) => Value::Bool(*bool),
        Packed::Integer(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => json!(number),
            (_, Some(number)) => json!(number),
            _ => Value::Null,
        },
        Packed::F32(number) => json!(number),
        Packed::F64(number) => json!(number),
        Packed::String(text) => match text.as_str() {
            Some(text) => Value::String(text.to_owned()),
            None => bytes(text.as_bytes()),
        },
        Packed::Binary(binary) => bytes(binary),
        // A list of numbers from 0 to 255 is how serde writes `Vec<u8>` when it is not told otherwise.
        Packed::Array(items) => octets(items)
            .map_or_else(|| Value::Array(items.iter().map(json).collect()), |octets| bytes(&octets)),
        Packed::Map(fields) => {
            let fields = fields.iter().map(|(key, value)| {
                let key = key.as_str().map_or_else(|| key.to_string(), ToOwned::to_owned);
                (key, json(value))
            });
            Value::Object(fields.collect())
        }
        Packed::Ext(kind, data) => json!({ "extension": kind, "base64": BASE64.encode(data) }),
    }
}

/// A list that is bytes: all of it numbers from 0 to 255, at least 8 of them, so that `[1, 2]` stays a list.
fn octets(items: &[Packed]) -> Option<Vec<u8>> {
    if items.len() < 8 {
        return None;
    }
    items.iter().map(|item| item.as_u64().and_then(|n| u8::try_from(n).ok())).collect()
}

fn bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::String(text.to_owned()),
        Err(_) => json!({ "base64": BASE64.encode(bytes) }),
    }
}

/// The same from MessagePack.
pub fn json_of(packed: &[u8]) -> Value {
    json(&unpack(packed))
}

/// Looks into texts: those that are JSON objects or lists become what they say, so that a diff names paths in them.
pub fn opened(value: Value) -> Value {
    match value {
        Value::String(text) => match nested(&text) {
            Some(inner) => inner,
            None => Value::String(text),
        },
        Value::Array(items) => Value::Array(items.into_iter().map(opened).collect()),
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(key, value)| (key, opened(value))).collect::<Map<_, _>>())
        }
        other => other,
    }
}

/// A text that is a JSON object or list.
pub fn nested(text: &str) -> Option<Value> {
    let begins = text.trim_start().starts_with(['{', '[']);
    if !begins || text.len() > MAX_NESTED {
        return None;
    }
    serde_json::from_str(text).ok()
}

/// JSON as MessagePack, in the way that `like`, a value of the same function, is written: bytes where it has bytes.
pub fn packed_like(value: &Value, like: Option<&Packed>) -> Packed {
    match (value, like) {
        (Value::Null, _) => Packed::Nil,
        (Value::Bool(bool), _) => Packed::Boolean(*bool),
        (Value::Number(number), _) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => number.into(),
            (_, Some(number)) => number.into(),
            _ => number.as_f64().unwrap_or(f64::NAN).into(),
        },
        (Value::String(text), Some(Packed::Binary(_))) => Packed::Binary(text.clone().into_bytes()),
        // Bytes as serde writes them when it is not told otherwise.
        (Value::String(text), Some(Packed::Array(_))) => {
            Packed::Array(text.bytes().map(|byte| Packed::from(u64::from(byte))).collect())
        }
        (Value::String(text), _) => text.as_str().into(),
        (Value::Array(items), like) => {
            let like = like.and_then(Packed::as_array);
            let like = |at: usize| like.and_then(|items| items.get(at).or_else(|| items.first()));
            Packed::Array(items.iter().enumerate().map(|(at, item)| packed_like(item, like(at))).collect())
        }
        (Value::Object(fields), like) => {
            if let (Some(text), 1) = (fields.get("base64").and_then(Value::as_str), fields.len())
                && let Ok(bytes) = BASE64.decode(text)
            {
                return match like {
                    Some(Packed::Array(_)) => {
                        Packed::Array(bytes.into_iter().map(|byte| Packed::from(u64::from(byte))).collect())
                    }
                    _ => Packed::Binary(bytes),
                };
            }
            let fields = fields.iter().map(|(key, value)| {
                (Packed::from(key.as_str()), packed_like(value, like.and_then(|like| field(like, key))))
            });
            Packed::Map(fields.collect())
        }
    }
}

/// A field of a map.
pub fn field<'v>(value: &'v Packed, name: &str) -> Option<&'v Packed> {
    value.as_map()?.iter().find(|(key, _)| key.as_str() == Some(name)).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_text_where_they_are_and_base64_where_not() {
        let map = Packed::Map(vec![
            ("a".into(), Packed::Binary(b"hi".to_vec())),
            ("b".into(), Packed::Binary(vec![0xff])),
            ("c".into(), Packed::Array((0..9u64).map(|n| Packed::from(n + 65)).collect())),
        ]);
        assert_eq!(json_of(&pack(&map)), json!({"a": "hi", "b": {"base64": "/w=="}, "c": "ABCDEFGHI"}));
    }

    #[test]
    fn json_in_a_text_is_opened_and_other_text_is_not() {
        assert_eq!(opened(json!({"body": "{\"a\":[1]}"})), json!({"body": {"a": [1]}}));
        assert_eq!(opened(json!(["{a", "12"])), json!(["{a", "12"]));
    }

    #[test]
    fn a_value_is_written_like_another_of_its_function() {
        let like = Packed::Map(vec![("Ok".into(), Packed::Binary(vec![1]))]);
        let made = packed_like(&json!({"Ok": "hi"}), Some(&like));
        assert_eq!(field(&made, "Ok"), Some(&Packed::Binary(b"hi".to_vec())));
        let made = packed_like(&json!({"Ok": {"base64": "/w=="}}), Some(&like));
        assert_eq!(field(&made, "Ok"), Some(&Packed::Binary(vec![0xff])));
    }

    #[test]
    fn what_is_no_messagepack_or_too_deep_is_none() {
        assert_eq!(unpack(&[]), Packed::Nil);
        assert_eq!(unpack(&[0xc1]), Packed::Nil);
        assert_eq!(unpack(&[0x91; 10_000]), Packed::Nil);
    }
}
