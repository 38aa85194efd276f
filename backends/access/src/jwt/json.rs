//! JSON objects without a name twice.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::Value;

/// A JSON object. One that has a name twice is refused: which of the two counts is anybody's guess, and who issued the token and who
/// checks it may guess differently (RFC 7519, section 4; RFC 8725, section 2.4).
pub(super) struct Object(BTreeMap<String, Value>);

impl Object {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A text, or nothing where there is none; an error where there is something else, `null` included.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, ()> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(()),
        }
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Object;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut object = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if object.insert(name, value).is_some() {
                        return Err(A::Error::custom("a name twice"));
                    }
                }
                Ok(Object(object))
            }
        }
        deserializer.deserialize_map(Names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_twice_is_refused_however_it_is_spelled() {
        assert!(Object::parse(br#"{"a":1,"b":1}"#).is_some());
        for bad in [r#"{"a":1,"a":1}"#, r#"{"a":1,"b":2,"\u0061":1}"#, "[]", "null", "", "{", r#"{"a":1}{"#] {
            assert!(Object::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_text_is_a_text_and_null_is_none() {
        let object = Object::parse(br#"{"a":"x","b":null,"c":["x"]}"#).unwrap();
        assert_eq!(object.text("a"), Ok(Some("x")));
        assert_eq!(object.text("d"), Ok(None));
        assert_eq!((object.text("b"), object.text("c")), (Err(()), Err(())));
    }
}
