//! Values that redaction replaces wherever they come from. The recorder put a token in the place of every `authorization`
//! header, those that the guest made itself included; a replay has no key to do so again, so such places are compared
//! by what a token keeps: their length and their punctuation.

use std::sync::LazyLock;

use longshore_secrets::tokens::Policy;
use rmpv::Value;

/// Whether a header or field of this name is replaced whatever it says, by the policy that every fleet has.
pub fn is_sensitive(name: &str) -> bool {
    static STANDARD: LazyLock<Policy> = LazyLock::new(Policy::standard);
    STANDARD.is_sensitive(name)
}

/// Whether two values are equal but for what stands under sensitive names, and that has the shape of its token.
pub fn alike(recorded: &Value, replayed: &Value) -> bool {
    match (recorded, replayed) {
        (Value::Map(one), Value::Map(other)) => {
            let header = one.iter().find(|(key, _)| key.as_str() == Some("name"));
            let header = header.and_then(|(_, name)| name.as_str()).is_some_and(is_sensitive);
            one.len() == other.len()
                && one.iter().zip(other).all(|((key, mine), (other_key, theirs))| {
                    let name = key.as_str().unwrap_or_default();
                    let hidden = is_sensitive(name) || header && name == "value";
                    key == other_key && if hidden { shaped(mine, theirs) } else { alike(mine, theirs) }
                })
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            let header = one.len() == 2 && one.first().and_then(Value::as_str).is_some_and(is_sensitive);
            one.iter().zip(other).enumerate().all(|(at, (mine, theirs))| {
                if header && at == 1 { shaped(mine, theirs) } else { alike(mine, theirs) }
            })
        }
        (one, other) => one == other,
    }
}

/// Whether one header's value can be the other's token.
pub fn header_alike(recorded: &(String, String), replayed: &(String, String)) -> bool {
    recorded.0 == replayed.0
        && (recorded.1 == replayed.1
            || is_sensitive(&recorded.0) && same_shape(recorded.1.as_bytes(), replayed.1.as_bytes()))
}

fn shaped(one: &Value, other: &Value) -> bool {
    let bytes = |value: &Value| match value {
        Value::String(text) => Some(text.as_bytes().to_vec()),
        Value::Binary(bytes) => Some(bytes.clone()),
        _ => None,
    };
    match (bytes(one), bytes(other)) {
        (Some(one), Some(other)) => same_shape(&one, &other),
        _ => alike(one, other),
    }
}

/// A token has the length of its value. Punctuation stays in its place, unless the value is mostly that.
fn same_shape(token: &[u8], value: &[u8]) -> bool {
    let punctuation =
        |bytes: &[u8]| bytes.iter().filter(|b| b.is_ascii() && !b.is_ascii_alphanumeric()).count();
    let stays = |(one, other): (&u8, &u8)| {
        let kept = |b: &u8| b.is_ascii() && !b.is_ascii_alphanumeric();
        !kept(other) || one == other
    };
    token.len() == value.len() && (punctuation(value) * 2 > value.len() || token.iter().zip(value).all(stays))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, value: &str) -> Value {
        Value::Map(vec![("name".into(), name.into()), ("value".into(), value.into())])
    }

    #[test]
    fn credentials_are_compared_by_their_shape_and_nothing_else_is() {
        assert!(alike(&header("Authorization", "Bearer abc-1"), &header("Authorization", "Bearer xyz-9")));
        assert!(!alike(&header("Authorization", "Bearer abc-1"), &header("Authorization", "Bearer xyz_9")));
        assert!(!alike(&header("authorization", "abc"), &header("authorization", "abcd")));
        assert!(!alike(&header("accept", "abc"), &header("accept", "xyz")));
        let pair = |value: &str| Value::Array(vec!["set-cookie".into(), value.into()]);
        assert!(alike(&pair("a=b"), &pair("a=c")));
        assert!(!alike(&pair("a=b"), &Value::Array(vec!["cookie".into(), "a=b".into()])));
    }
}
