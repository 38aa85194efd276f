//! The JSON inside an envelope: name -> value, or name -> `{"value": .., "hosts": [..]}`.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use zeroize::{Zeroize as _, Zeroizing};

use crate::hosts::HostPattern;
use crate::{MAX_PLAIN_BYTES, handles};

/// Secrets of one envelope.
pub const MAX_SECRETS: usize = 256;
/// Bytes of a secret's name.
pub const MAX_NAME_BYTES: usize = 128;
/// Hosts that one secret may name.
const MAX_HOSTS: usize = 32;

/// Secrets in the clear, as somebody wrote them or as they came out of an envelope.
#[derive(Default)]
pub struct SecretTexts(pub(crate) BTreeMap<String, SecretText>);

pub(crate) struct SecretText {
    pub(crate) value: Zeroizing<String>,
    /// None: the guest reads the value. Some: it gets a handle, and the value leaves to these hosts only.
    pub(crate) hosts: Option<Vec<HostPattern>>,
}

/// Why something is no set of secrets. Content is never repeated, names neither: they may be values in a wrong place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextsError {
    /// No JSON.
    #[error("no JSON")]
    Syntax,
    /// JSON of another shape.
    #[error("no JSON object of texts, or of objects with `value` and `hosts`")]
    Shape,
    /// A name that is empty, long or has control characters.
    #[error("a name is not 1 to {MAX_NAME_BYTES} printable bytes")]
    Name,
    /// A secret with hosts whose name cannot stand in a handle.
    #[error("the name of a secret with hosts contains a brace")]
    HandleName,
    /// A host that is none.
    #[error("`hosts` is not 1 to {MAX_HOSTS} of api.example.com, *.example.org or api.example.com:8443")]
    Hosts,
    /// Too many.
    #[error("more than {MAX_SECRETS} secrets")]
    Count,
    /// Too large.
    #[error("more than {MAX_PLAIN_BYTES} bytes")]
    Size,
}

impl SecretTexts {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value that the guest may read; one of the same name is replaced.
    ///
    /// # Errors
    /// The name, or the number of secrets.
    pub fn insert(&mut self, name: &str, value: &str) -> Result<(), TextsError> {
        self.add(name.to_owned(), SecretText { value: Zeroizing::new(value.to_owned()), hosts: None })
    }

    /// Adds a value that the guest cannot read and that leaves only in requests to `hosts`.
    ///
    /// # Errors
    /// The name, the hosts, or the number of secrets.
    pub fn insert_for_hosts(&mut self, name: &str, value: &str, hosts: &[&str]) -> Result<(), TextsError> {
        let hosts: Result<Vec<_>, _> = hosts.iter().map(|host| host.parse()).collect();
        let hosts = Some(hosts.map_err(|_| TextsError::Hosts)?);
        self.add(name.to_owned(), SecretText { value: Zeroizing::new(value.to_owned()), hosts })
    }

    fn add(&mut self, name: String, text: SecretText) -> Result<(), TextsError> {
        if !(1..=MAX_NAME_BYTES).contains(&name.len()) || name.chars().any(char::is_control) {
            return Err(TextsError::Name);
        }
        if let Some(hosts) = &text.hosts {
            if !(1..=MAX_HOSTS).contains(&hosts.len()) {
                return Err(TextsError::Hosts);
            }
            if !handles::can_name(&name) {
                return Err(TextsError::HandleName);
            }
        }
        if self.0.len() >= MAX_SECRETS && !self.0.contains_key(&name) {
            return Err(TextsError::Count);
        }
        // Of two with the same name the last counts, as in every JSON reader of the existing platform.
        self.0.insert(name, text);
        Ok(())
    }

    /// Reads the JSON of an envelope.
    ///
    /// # Errors
    /// What is wrong, without a byte of it.
    pub fn parse(json: &[u8]) -> Result<Self, TextsError> {
        if json.len() > MAX_PLAIN_BYTES {
            return Err(TextsError::Size);
        }
        let mut wrong = None;
        let mut reader = serde_json::Deserializer::from_slice(json);
        let read = reader.deserialize_map_into(&mut wrong);
        // The parser's own words may quote the content.
        let texts = read.map_err(|error| {
            let other = if error.is_data() { TextsError::Shape } else { TextsError::Syntax };
            wrong.unwrap_or(other)
        })?;
        reader.end().map_err(|_| TextsError::Syntax)?;
        Ok(texts)
    }

    /// The JSON for an envelope.
    pub fn to_json(&self) -> Zeroizing<Vec<u8>> {
        let map: BTreeMap<&str, Written<'_>> =
            self.0.iter().map(|(name, text)| (name.as_str(), Written(text))).collect();
        let mut json = Wiping(Zeroizing::new(Vec::new()));
        // A map of texts is always JSON, and memory takes every byte.
        drop(serde_json::to_writer(&mut json, &map));
        json.0
    }
}

impl fmt::Debug for SecretTexts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretTexts({} secrets)", self.0.len())
    }
}

/// A `Vec` that leaves no copy behind when it grows.
struct Wiping(Zeroizing<Vec<u8>>);

impl std::io::Write for Wiping {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.capacity() - self.0.len() < bytes.len() {
            let mut larger = Vec::with_capacity((self.0.len() + bytes.len()) * 2);
            larger.extend_from_slice(&self.0);
            self.0.zeroize();
            *self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Written<'a>(&'a SecretText);

impl serde::Serialize for Written<'_> {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        match &self.0.hosts {
            None => s.serialize_str(&self.0.value),
            Some(hosts) => {
                let mut object = s.serialize_struct("secret", 2)?;
                object.serialize_field("value", self.0.value.as_str())?;
                let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
                object.serialize_field("hosts", &hosts)?;
                object.end()
            }
        }
    }
}

/// Reads a map and says beside serde's own error, which would be a text, what was wrong.
trait MapInto<'de>: Deserializer<'de> {
    fn deserialize_map_into(self, wrong: &mut Option<TextsError>) -> Result<SecretTexts, Self::Error>;
}

impl<'de, D: Deserializer<'de>> MapInto<'de> for D {
    fn deserialize_map_into(self, wrong: &mut Option<TextsError>) -> Result<SecretTexts, Self::Error> {
        self.deserialize_map(Names(wrong))
    }
}

struct Names<'w>(&'w mut Option<TextsError>);

impl<'de> Visitor<'de> for Names<'_> {
    type Value = SecretTexts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of secrets")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretTexts, A::Error> {
        let mut texts = SecretTexts::new();
        while let Some(name) = map.next_key::<String>()? {
            let Entry { value, hosts } = map.next_value()?;
            let added = match hosts.map(|hosts| hosts.iter().map(|host| host.parse()).collect()).transpose() {
                Ok(hosts) => texts.add(name, SecretText { value, hosts }),
                Err(_) => Err(TextsError::Hosts),
            };
            if let Err(error) = added {
                *self.0 = Some(error);
                return Err(de::Error::custom("refused"));
            }
        }
        Ok(texts)
    }
}

struct Entry {
    value: Zeroizing<String>,
    hosts: Option<Vec<String>>,
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(EntryVisitor)
    }
}

struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or an object with value and hosts")
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Entry, E> {
        Ok(Entry { value: Zeroizing::new(value.to_owned()), hosts: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
        let (mut value, mut hosts) = (None, None);
        while let Some(field) = map.next_key::<String>()? {
            match field.as_str() {
                "value" if value.is_none() => value = Some(Zeroizing::new(map.next_value::<String>()?)),
                "hosts" if hosts.is_none() => hosts = Some(map.next_value::<Hosts>()?.0),
                _ => return Err(de::Error::custom("another field")),
            }
        }
        match (value, hosts) {
            (Some(value), hosts @ Some(_)) => Ok(Entry { value, hosts }),
            _ => Err(de::Error::custom("a field is missing")),
        }
    }
}

/// At most one more than allowed is kept, so that a long list is refused and not stored.
struct Hosts(Vec<String>);

impl<'de> Deserialize<'de> for Hosts {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Hosts;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of hosts")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Hosts, A::Error> {
                let mut hosts = Vec::new();
                while let Some(host) = seq.next_element()? {
                    hosts.push(host);
                    if hosts.len() > MAX_HOSTS {
                        return Err(de::Error::custom("too many"));
                    }
                }
                Ok(Hosts(hosts))
            }
        }
        d.deserialize_seq(List)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_objects_with_hosts_are_read_and_written() {
        let json = r#"{"b":"2","a":{"hosts":["API.example.com","*.x.org:1"],"value":"1\n"}}"#;
        let texts = SecretTexts::parse(json.as_bytes()).unwrap();
        let written = texts.to_json();
        let expected = r#"{"a":{"value":"1\n","hosts":["api.example.com","*.x.org:1"]},"b":"2"}"#;
        assert_eq!(std::str::from_utf8(&written).unwrap(), expected);
        assert!(SecretTexts::parse(b"{}").unwrap().0.is_empty());
        let mut own = SecretTexts::new();
        own.insert("b", "2").unwrap();
        own.insert_for_hosts("a", "1\n", &["api.example.com", "*.x.org:1"]).unwrap();
        assert_eq!(*own.to_json(), *written);
        assert!(!format!("{own:?}").contains('b'), "no content, no names");
    }

    #[test]
    fn of_two_with_one_name_the_last_counts() {
        let texts = SecretTexts::parse(br#"{"a":"1","a":"2"}"#).unwrap();
        assert_eq!(texts.0["a"].value.as_str(), "2");
    }

    #[test]
    fn what_is_something_else_is_refused_by_kind_and_without_content() {
        let many =
            format!("{{{}}}", (0..257).map(|n| format!("\"k{n}\":\"\"")).collect::<Vec<_>>().join(","));
        let long = format!("{{\"{}\":\"\"}}", "n".repeat(129));
        let hosts = format!("{{\"a\":{{\"value\":\"\",\"hosts\":[{}\"x\"]}}}}", "\"x\",".repeat(32));
        let deep = format!("{{\"a\":{}", "[".repeat(10_000));
        let cases: [(&str, TextsError); 19] = [
            ("", TextsError::Syntax),
            ("canary", TextsError::Syntax),
            ("{\"a\":\"1\"} canary", TextsError::Syntax),
            ("{\"a\":\"1\",}", TextsError::Syntax),
            ("[\"canary\"]", TextsError::Shape),
            ("null", TextsError::Shape),
            ("{\"a\":1}", TextsError::Shape),
            ("{\"a\":null}", TextsError::Shape),
            ("{\"a\":[\"canary\"]}", TextsError::Shape),
            ("{\"a\":{\"b\":\"canary\"}}", TextsError::Shape),
            ("{\"a\":{\"value\":\"v\"}}", TextsError::Shape),
            ("{\"a\":{\"value\":\"v\",\"value\":\"w\",\"hosts\":[\"x\"]}}", TextsError::Shape),
            ("{\"a\":{\"value\":\"v\",\"hosts\":[]}}", TextsError::Hosts),
            ("{\"a\":{\"value\":\"v\",\"hosts\":[\"ca na ry\"]}}", TextsError::Hosts),
            ("{\"a}\":{\"value\":\"v\",\"hosts\":[\"x\"]}}", TextsError::HandleName),
            ("{\"\":\"v\"}", TextsError::Name),
            ("{\"a\\nb\":\"v\"}", TextsError::Name),
            (&long, TextsError::Name),
            (&many, TextsError::Count),
        ];
        for (json, expected) in cases {
            let error = SecretTexts::parse(json.as_bytes()).unwrap_err();
            assert_eq!(error, expected, "{json}");
            assert!(!error.to_string().contains("canary"));
        }
        assert_eq!(SecretTexts::parse(hosts.as_bytes()).unwrap_err(), TextsError::Shape);
        assert_eq!(SecretTexts::parse(deep.as_bytes()).unwrap_err(), TextsError::Shape);
        assert_eq!(SecretTexts::parse(&vec![b' '; MAX_PLAIN_BYTES + 1]).unwrap_err(), TextsError::Size);
        assert_eq!(SecretTexts::parse(b"{\"a\":\"\xff\"}").unwrap_err(), TextsError::Syntax);
    }
}
